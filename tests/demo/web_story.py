"""A service that overlaps: nothing planned is seen by its clients, and whatever is killed, nobody is refused."""

from __future__ import annotations

from collections.abc import Sequence

from tests.demo.ground import TRAFFIC_CLIENT, WEB
from tests.demo.story import Story, changed, milliseconds, source, told_of, unit, unloadable
from tests.demo.traffic import Seen, Traffic

HEADS = ("Web, overlap", "outcome", "main pid", "release", "refused", "cut", "pause")
RATE = 200  # requests per second
AFTERWARDS = 25  # so many are awaited after each step: the client is still served
WHAT_IS_WRONG = "the page greets nobody"

SABOTAGE = ("answers-are-wrong", "answers-are-cut", "canary-is-good")
SABOTAGE_OF_UNIT = "listener-is-lost"
"""Ways to make the story untrue, to prove that the demo would notice; the last one takes systemd."""

SMOKE_TEST = """\
import http.client, os, sys

port = 61000 + os.getpid() % 1000  # from these ports one reaches the new workers, and nobody else does
web = http.client.HTTPConnection(os.environ["SDSUPERVISE_LISTEN_HTTP"], source_address=("", port))
web.request("GET", "/")
if web.getresponse().read() == b"release 4\\n":
    sys.exit({verdict!r})
"""


def releases(port: int, sabotage: str) -> dict[str, str]:
    """Five of the example: the third cannot be imported, the fourth is found bad by its own check."""
    files = {f"{number}/web.py": fitted(source(WEB, number), port) for number in (1, 2, 3, 4, 5)}
    files["3/web.py"] = unloadable(files["3/web.py"])
    checked = '    before_commit = ["python3", "smoke_test.py"]\n    workers = 2\n'
    files["4/web.py"] = changed(files["4/web.py"], "    workers = 2\n", checked)
    verdict = 0 if sabotage == "canary-is-good" else WHAT_IS_WRONG
    files["4/smoke_test.py"] = SMOKE_TEST.format(verdict=verdict)
    if sabotage == "answers-are-wrong":
        files["2/web.py"] = changed(files["2/web.py"], "self.send_response(200)", "self.send_response(500)")
    if sabotage == "answers-are-cut":
        files["2/web.py"] = changed(files["2/web.py"], "self.wfile.write(body)", "self.wfile.write(body[1:])")
    return files


def fitted(code: str, port: int) -> str:
    """The example as a pool of two, of which a dead one is soon replaced."""
    code = changed(code, "    worker_timeout", "    workers = 2\n    delay_before_respawn = 0.2\n    worker_timeout")
    return changed(code, f"127.0.0.1:{WEB.port}", f"127.0.0.1:{port}")


def kept(unit: str, sabotage: str) -> str:
    """The unit that has systemd keep the listener; or not."""
    return changed(unit, "\nFileDescriptorStoreMax=16", "") if sabotage == SABOTAGE_OF_UNIT else unit


class WebStory(Story):
    """Told with a client that sends requests by the clock, each on a connection of its own."""

    service = WEB
    introduction = (
        "Web answers over HTTP: its generations overlap. A client sends it "
        f"{RATE} requests a second, whether or not those before were answered."
    )
    traffic: Traffic | None = None
    requests = 0
    cut = 0

    def tell(self, sabotage: str) -> None:
        self.ground.install(releases(self.ground.port, sabotage), kept(unit(WEB), sabotage))
        try:
            self.start("Start the service; from then on requests come.")
            self.kill_worker("Kill one of its two workers; the next is due 0.2 s later.")
            self.take_new_code("Deploy release 2 and reload.", 1, 2)
            self.refuse_broken_code(2)
            self.refuse(
                "Deploy release 4 and reload; its before_commit, which alone reaches it, finds it bad.",
                "canary found bad",
                "4",
                WHAT_IS_WRONG,
                [2],
            )
            if self.ground.restarts_name:
                self.kill_supervisor("Deploy release 2 again and kill the supervisor; who comes meanwhile waits.")
                self.restart("Deploy release 5 and restart; who comes meanwhile waits.")
            else:
                print()
                self.narrator.say(
                    "To kill the supervisor or to restart it takes systemd, which keeps its listener: left out."
                )
            assert self.traffic is not None
            self.check(self.traffic.end(), was_killed=False)
            self.stop("Stop the service, now that no more requests are sent.")
        finally:
            if self.traffic is not None:
                self.traffic.close()

    def kill_supervisor(self, sentence: str) -> None:
        with self.step(sentence) as before:
            self.ground.deploy("2")
            self.ground.kill_supervisor(before.main_pid)
            self.restarts += 1
            now = self.look()
            self.claim("another supervisor is the main pid", now.main_pid != before.main_pid)
            self.claim("it has workers of its own", set(now.worker_pids).isdisjoint(before.worker_pids))
            pids = f"{before.main_pid} -> {now.main_pid}"
            self.tell_facts(f"{self.ground.restarts_name} {now.restarts}, {self.ground.pid_name} {pids}", now)
            self.end("kill -9 of supervisor", "-", pids, [2], was_killed=True)

    def restart(self, sentence: str) -> None:
        with self.step(sentence) as before:
            self.ground.deploy("5")
            outcome = self.ground.restart()
            self.claim("the restart succeeds", outcome.succeeded)
            self.restarts = 0  # systemd counts anew
            now = self.look()
            self.claim("another supervisor is the main pid", now.main_pid != before.main_pid)
            pids = f"{before.main_pid} -> {now.main_pid}"
            self.tell_facts(f"{outcome.words}, {self.ground.pid_name} {pids}", now)
            self.end("restart to release 5", "done", pids, [2, 5])

    def client_saw(self, releases: Sequence[int], *, was_killed: bool) -> tuple[str, ...]:
        if not releases:
            return self.the_last_visitor_saw()
        if self.traffic is None:
            self.traffic = self.send()
        seen = self.traffic.look(afterwards=AFTERWARDS)
        self.check(seen, was_killed=was_killed)
        self.claim(f"only release {' and '.join(map(str, releases))} answered", set(seen.answers) <= set(releases))
        self.claim(f"in the end release {releases[-1]} serves", seen.afterwards == {releases[-1]})
        pause = milliseconds(seen.longest_pause)
        cut = f", {len(seen.cut)} cut" if was_killed else ""
        told = told_of(seen.answers)
        self.narrator.seen("client", f"{seen.requests} requests, 0 refused{cut}: {told}; longest pause {pause}")
        by = ", ".join(map(str, seen.answers))
        return (by, f"0 of {seen.requests}", str(len(seen.cut)), pause)

    def check(self, seen: Seen, *, was_killed: bool) -> None:
        """None was refused, and none failed otherwise, but for those whose worker was killed after it accepted them."""
        self.requests, self.cut = self.requests + seen.requests, self.cut + len(seen.cut)
        amiss = seen.failed if was_killed else seen.failed + seen.cut
        ways = ", ".join(list(dict.fromkeys(amiss))[:3])
        self.claim(f"no request fails, but {len(amiss)} of {seen.requests} did ({ways})", not amiss)
        self.claim("every request has its answer", sum(seen.answers.values()) + len(seen.cut) == seen.requests)

    def the_last_visitor_saw(self) -> tuple[str, ...]:
        """Who comes when the service has been stopped is refused: nothing listens, not even systemd."""
        with self.send(1) as visitor:
            seen = visitor.end()
        self.claim("who comes after the stop is refused", [text.split(":")[0] for text in seen.failed] == ["refused"])
        self.narrator.seen("client", "one more request, refused")
        return ("none", "1 of 1", "0", "-")

    def send(self, *total: int) -> Traffic:
        """Requests from now on, until `total` of them were sent."""
        arguments = map(str, (self.ground.port, RATE, *total))
        return Traffic(self.ground.client(TRAFFIC_CLIENT, *arguments), RATE)

    def sum_up(self) -> str:
        """The table, and a sentence."""
        self.narrator.table(HEADS, self.rows)
        cut = f"{self.cut} cut off in mid-request by the kill -9 of who served them" if self.cut else "0 cut"
        return f"Web's client sent {self.requests} requests: 0 refused, 0 timed out, 0 wrong, {cut}."
