"""Several workers at once: their numbers, their ends, and what is said of them."""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Mapping
from textwrap import dedent
from typing import Any

from tests.support.harness import SDSUPERVISE, Ground, Report, notify_socket, service
from tests.support.running import Running, wait_gone


def member(*bodies: str) -> str:
    """A service of three workers that say who they are."""
    return service("\n".join(dedent(body) for body in bodies), base="Member")


def serving(ground: Ground, count: int = 3, **details: object) -> list[Report]:
    """So many workers begin to serve; in the order of their numbers, which are 0 to N-1."""
    reports = [ground.expect("serves", **details) for _ in range(count)]
    reports.sort(key=lambda report: int(report.said("index")))
    assert [int(report.said("index")) for report in reports] == list(range(count))
    return reports


# A worker that begins after `hold` does not get ready before it is let go.
HELD = """
    delay_before_respawn = 0.1
    def warm_up(self):
        if os.path.exists(os.environ["GROUND"] + "/held"):
            open(os.environ["GROUND"] + "/held").close()
"""


def hold(ground: Ground) -> None:
    """From now on."""
    os.mkfifo(ground.directory / "held")


def let_go(ground: Ground) -> None:
    """The one that is held, or comes to it soon."""
    os.close(os.open(ground.directory / "held", os.O_WRONLY))


def workers(ground: Ground) -> list[Mapping[str, Any]]:
    """As status shows them."""
    found = ground.status()["workers"]
    assert isinstance(found, list)
    return found


def stop(running: Running) -> None:
    """SIGTERM, and a good end."""
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_all_of_them(ground: Ground) -> None:
    """So many workers as were asked for, each with a number of its own from 0 on; a stop ends all."""
    ground.deploy(1, member())
    running = ground.start()
    found = [report.pid for report in serving(ground, generation=1)]
    assert [(worker["index"], worker["pid"]) for worker in workers(ground)] == list(enumerate(found))
    assert ground.status()["healthy"] is True
    stop(running)
    assert sorted(report.pid for report in ground.seen("shutdown")) == sorted(found)
    ground.expect_nothing_left()


def test_auto(ground: Ground) -> None:
    """As many as there are CPUs that the service may use."""
    ground.deploy(1, member("workers = 'auto'"))
    one = {min(os.sched_getaffinity(0))}
    running = ground.start(preexec_fn=lambda: os.sched_setaffinity(0, one))
    serving(ground, 1)
    assert len(workers(ground)) == 1
    stop(running)
    ground.start()
    serving(ground, len(os.sched_getaffinity(0)))


def test_ready_means_all_of_them(ground: Ground) -> None:
    """Systemd hears READY=1, and the workers that are ready their release, when the last one is."""
    slow = """
        def warm_up(self):
            if self.index == "1":
                open(os.environ["GROUND"] + "/go").close()
    """
    ground.deploy(1, member(slow))
    os.mkfifo(ground.directory / "go")
    with notify_socket(ground) as systemd:
        ground.start(environment={"NOTIFY_SOCKET": str(ground.directory / "notify")})
        early = {ground.expect("warm").said("index") for _ in range(2)}
        assert early == {"0", "2"} and ground.status()["state"] == "opening"
        assert not ground.seen("serves") and b"READY=1" not in systemd.recv(4096)
        os.close(os.open(ground.directory / "go", os.O_WRONLY))
        serving(ground)
        while b"READY=1" not in systemd.recv(4096):
            pass


def test_only_the_dead_one_comes_back(ground: Ground) -> None:
    """A worker that dies is replaced under its number, and the others go on. Meanwhile the status says how many
    serve, and why not all."""
    ground.deploy(1, member(HELD))
    running = ground.start()
    before = [report.pid for report in serving(ground)]
    hold(ground)
    os.kill(before[1], signal.SIGSEGV)
    running.expect_line(rf"Worker \(pid {before[1]}\) was killed by SIGSEGV")
    status = ground.status()
    assert re.search(
        r"serves .* with 2 of 3 workers: worker 1 was killed by SIGSEGV.*, the next starts 0.1 s later$",
        str(status["status"]),
    )
    assert status["healthy"] is False
    let_go(ground)
    fresh = ground.expect("serves", index=1)
    assert [worker["pid"] for worker in workers(ground)] == [before[0], fresh.pid, before[2]]
    assert [worker["crashes"] for worker in workers(ground)] == [0, 1, 0]
    assert str(ground.status()["status"]).endswith(")") and ground.status()["crashes"] == 1


def test_backoff_is_each_ones_own(ground: Ground) -> None:
    """One worker that crashes in a row waits ever longer; another's first crash waits the first delay."""
    ground.deploy(1, member(HELD))
    running = ground.start()
    found = [report.pid for report in serving(ground)]
    hold(ground)
    delays = []
    for index in (0, 0, 0, 2):
        os.kill(found[index], signal.SIGKILL)
        running.expect_line(rf"Worker \(pid {found[index]}\) was killed")
        delays += re.findall(r"next starts (\S+) s later", str(ground.status()["status"]))
        let_go(ground)
        found[index] = ground.expect("serves", index=index).pid
    assert delays == ["0.1", "0.2", "0.4", "0.1"]


def test_verdict_over_all(ground: Ground) -> None:
    """crash_limit crashes are too many whichever workers they befall; the reason says the last one."""
    ground.deploy(1, member("crash_limit = 3"))
    running = ground.start()
    for report in serving(ground):
        os.kill(report.pid, signal.SIGKILL)
    assert running.wait() == 75
    assert re.search(r"Gave up after 3 crashes: worker \d was killed by SIGKILL", running.err)
    ground.expect_nothing_left()


def test_first_start_with_systemd(ground: Ground) -> None:
    """While systemd waits for the start, the crash of any one is the end of it, with the reason: its Restart= is the
    one to try again."""
    ground.deploy(1, member('def warm_up(self):\n    if self.index == "2":\n        raise OSError("no disk")'))
    with notify_socket(ground):
        running = ground.start(environment={"NOTIFY_SOCKET": str(ground.directory / "notify")})
        assert running.wait() == 69
    assert "The service did not get ready: worker 2 exited with status 1 (OSError: no disk)" in running.err
    assert not ground.seen("serves")
    ground.expect_nothing_left()


def test_reload(ground: Ground) -> None:
    """Exclusive: of the new workers none is released before every old one is gone, and then all are."""
    ground.deploy(1, member())
    first = ground.start()
    old = [report.pid for report in serving(ground)]
    ground.deploy(2, member())
    assert ground.reload().returncode == 0
    serving(ground, release=2, generation=2)  # which would report it if it met an older one
    assert first.wait() == 0
    assert {process.pid for process in ground.leftovers()}.isdisjoint(old)
    words = [(report.word, report.said("release")) for report in ground.history]
    assert words.index(("serves", "2")) > max(at for at, word in enumerate(words) if word == ("shutdown", "1"))


def test_failed_reload(ground: Ground) -> None:
    """New code of which one worker does not get ready costs the old code nothing."""
    ground.deploy(1, member())
    ground.start()
    old = [report.pid for report in serving(ground)]
    ground.deploy(2, member('def warm_up(self):\n    if self.index == "1":\n        raise OSError("no disk")'))
    reload = ground.reload()
    assert reload.returncode == 1 and "no disk" in reload.stderr and "its workers were never stopped." in reload.stderr
    assert ground.worker_pids() == old


def test_failed_takeover(ground: Ground) -> None:
    """New code of which one worker fails after they were released costs the old ones a restart, and the caller hears
    so."""
    ground.deploy(1, member())
    ground.start()
    serving(ground)
    ground.deploy(2, member("probation = 10", 'def serve(self):\n    raise OSError("no disk")'))
    reload = ground.reload()
    assert reload.returncode == 1 and "its workers were stopped and started again." in reload.stderr, reload
    serving(ground, release=1)


def test_one_spare_for_all(ground: Ground) -> None:
    """Without a delay one process is forked ahead for the whole pool; it takes the number of the worker it replaces."""
    ground.deploy(1, member("delay_before_respawn = 0\nrespawn_backoff_limit = 0"))
    ground.start()
    found = [report.pid for report in serving(ground)]
    for index in (2, 1):
        spare = ground.status()["spare"]
        assert len(ground.leftovers()) == 5  # with the supervisor
        os.kill(found[index], signal.SIGKILL)
        assert ground.expect("serves", index=index).pid == spare


def test_silent_worker(ground: Ground) -> None:
    """A worker that falls silent is ended and replaced, and no other."""
    mute = """
        worker_timeout = 0.3
        def serve(self):
            self.ping_supervisor()
            if self.index == "1" and not os.path.exists(os.environ["GROUND"] + "/mute"):
                open(os.environ["GROUND"] + "/mute", "w").close()
                time.sleep(1000)
            while True:
                self.ping_supervisor()
                time.sleep(0.02)
    """
    ground.deploy(1, member(mute))
    running = ground.start()
    silent = serving(ground)[1].pid
    running.expect_line(rf"Worker \(pid {silent}\) sent no ping for 0\.3 s, ending it")
    assert ground.expect("serves").said("index") == "1"


def test_supervisor_killed(ground: Ground) -> None:
    """A supervisor that is killed leaves nothing: none of 20 workers."""
    ground.deploy(1, member("workers = 20"))
    running = ground.start()
    found = [ground.expect("serves").pid for _ in range(20)]
    running.signal(signal.SIGKILL)
    running.wait()
    for pid in found:
        wait_gone(pid)
    ground.expect_nothing_left()


def test_links_are_held_by_nobody_else(ground: Ground) -> None:
    """A worker holds its own link and the lock, and nothing of its siblings: the last no more than the first."""
    count = 'def serve(self):\n    report("files", count=len(os.listdir("/proc/self/fd")))\n    super().serve()'
    ground.deploy(1, member(f"workers = 8\n{count}"))
    running = ground.start()
    assert len({ground.expect("files").said("count") for _ in range(8)}) == 1
    assert len(os.listdir(f"/proc/{running.pid}/fd")) > 16


def status_lines(ground: Ground) -> list[str]:
    """What `sdsupervise status` prints, without times and sizes."""
    shown = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file))
    assert shown.returncode == 0, shown.stderr
    return re.sub(r" +", " ", re.sub(r"\d+\.\d (s|MB)", "_", shown.stdout)).splitlines()


def test_status(ground: Ground) -> None:
    """One line for each worker, with what it does and how often one of its number crashed."""
    ground.deploy(1, member("def serve(self):\n    self.ping_supervisor()\n    report('pinged')\n    super().serve()"))
    running = ground.start()
    pids = [report.pid for report in serving(ground)]
    for _ in range(3):
        ground.expect("pinged")
    os.kill(pids[1], signal.SIGKILL)
    pids[1] = ground.expect("pinged").pid
    lines = status_lines(ground)
    heading = next(line for line in lines if "PROCESS" in line)
    assert heading in (" PROCESS PID STATE AGE CPU PSS PING CRASHES", " PROCESS PID STATE AGE CPU RSS PING CRASHES")
    begin = lines.index(heading) + 1
    assert lines[begin : begin + 4] == [
        f" generation 1 {running.pid} serving _ _ _ 1",
        f" ├─ worker 0 {pids[0]} serving _ _ _ _ 0",
        f" ├─ worker 1 {pids[1]} serving _ _ _ _ 1",
        f" └─ worker 2 {pids[2]} serving _ _ _ _ 0",
    ]


def test_status_of_many(ground: Ground) -> None:
    """Of a big pool one line for all that just serve, and one for each that does anything else."""
    ground.deploy(1, member("workers = 15\nstop_timeout = 1000", HELD, "def supervised_shutdown(self): signal.pause()"))
    running = ground.start()
    for _ in range(15):
        ground.expect("serves")
    assert " └─ 15 workers serving _ _ 0 ages _ to _" in status_lines(ground)
    running.signal(signal.SIGTTOU)
    running.expect_line("Scaling from 15 to 14")
    leaving, rest = (line for line in status_lines(ground) if "─ " in line)
    assert re.fullmatch(r" ├─ worker 14 \d+ stopping _ _ _ - 0", leaving)
    assert rest.startswith(" └─ 14 workers serving _ _ 0 ")


LIMITED = """
    workers = 30
    def serve(self):
        import resource
        report("limit", soft=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        super().serve()
"""


def test_more_workers_than_descriptors(ground: Ground) -> None:
    """The soft limit on descriptors is there for programs that use select(2): a supervisor raises its own as it needs.
    What it starts has the limit as it was: workers, and a successor with its workers."""
    ground.deploy(1, member(LIMITED))
    first = ground.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (45, 4096)))
    assert {ground.expect("limit").said("soft") for _ in range(30)} == {"45"}
    ground.deploy(2, member(LIMITED))
    first.signal(signal.SIGUSR2)
    for _ in range(30):
        ground.expect("serves", release=2)
    assert {ground.expect("limit").said("soft") for _ in range(30)} == {"45"}
    assert first.wait() == 0
