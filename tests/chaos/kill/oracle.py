"""What has to be true of a service after whatever was done to it, judged from outside.

Who is alive is seen by pidfds, who serves by asking a question, who worked when by the log the workers write, what a
reload's caller was told by its exit status, and what is left by looking for processes.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import NamedTuple

from sdsupervise.core.takeover import Effect
from tests.chaos.kill.hub import Broken, Process
from tests.chaos.kill.instance import Release
from tests.chaos.kill.places import has_done
from tests.chaos.kill.stage import Call, Stage
from tests.chaos.kill.witness import was_cut

DONE, FAILED, NO_ANSWER = 0, 1, 69


class Line(NamedTuple):
    """A line of the log."""

    kind: str
    facts: dict[str, str]

    def __str__(self) -> str:
        return " ".join((self.kind, *(f"{name}={value}" for name, value in self.facts.items())))


def judge(stage: Stage) -> None:
    """Wait until the service has got over it, then check everything, then stop it. Raises Broken."""
    settle(stage)
    check_history(stage)
    check_kept(stage)
    if stage.hub.living("supervisor"):
        harmed = any(process.role == "supervisor" for process in stage.harmed)
        by_each_other = any(has_done(process.heard, Effect.KILL_PEER) for process in stage.hub.supervisors)
        check_present(stage, restarts_expected=harmed or by_each_other or stage.ends)
        reload_once_more(stage)
        stop(stage)
        check_history(stage)
    check_ends(stage)
    left = stage.instance.left(tidy=not any(process.role == "supervisor" for process in stage.harmed))
    if left:
        raise Broken(f"This is left after the end: {'; '.join(left)}.")


def settle(stage: Stage) -> None:
    """Until every caller has been answered, nobody of those we stopped is left hanging, and the service serves by one
    supervisor, or is gone where that is right. Raises Broken if that does not come."""
    stage.wait(lambda: is_settled(stage), "a service that has got over it")
    if not stage.hub.living("supervisor"):
        check_end(stage)


def is_settled(stage: Stage, *, beside_draining: bool = False) -> bool:
    """The same, as a condition. Where generations may drain beside the one that serves, they are left in peace."""
    hub, instance = stage.hub, stage.instance
    if any(process.killed and process.alive for process in hub.processes):
        return False  # it may have answered just before
    stage.ask_stop_again()
    if any(call.status is None for call in stage.calls) and not wakes_all(stage):
        return False
    supervisors = hub.living("supervisor")
    if not supervisors and not instance.systemd:
        return wakes_all(stage) and instance.is_gone()
    if not supervisors:
        return stage.stop_asked and stage.stopper is None and instance.is_gone()
    draining = [each for each in supervisors if stage.drains(each)] if beside_draining else []
    left_alone = {each.pid for each in draining}
    others = [each for each in hub.processes if each.alive and left_alone.isdisjoint((each.pid, each.parent))]
    # A spare that hangs is found out when it is needed.
    if wakes_all(stage) or any(process.hung and process.role != "spare" for process in others):
        return False
    if any(call.status is None for call in stage.calls):
        return False
    if stage.stop_asked if instance.systemd else stage.must_end:
        return False
    main = [each for each in supervisors if each not in draining]
    if len(main) != 1 or stage.is_leaving(main[0]):
        return False
    orphans = [child for child in others if child.parent not in (0, main[0].pid)]
    return not orphans and serves(stage, main[0])


def wakes_all(stage: Stage) -> bool:
    """Nobody is left who could notice that somebody hangs: no supervisor runs, and there is no systemd. Then the hang
    ends; true as long as there is no supervisor that runs."""
    hub = stage.hub
    if stage.instance.systemd or any(not process.hung for process in hub.living("supervisor")):
        return False
    sleepers = [process for process in hub.processes if process.alive and process.hung]
    for process in sleepers:
        hub.send(process, signal.SIGCONT)
    return not hub.living("supervisor")


def serves(stage: Stage, supervisor: Process) -> bool:
    """A worker of this supervisor has answered a question that was asked when this was first looked at."""
    questions = stage.questions
    workers = [worker for worker in stage.hub.workers_of(supervisor) if worker.begun]
    for worker in workers:
        if worker not in questions:
            questions[worker] = stage.hub.ask(worker)
    return any(worker.answered >= questions[worker] for worker in workers)


def check_end(stage: Stage) -> None:
    """The service has gone: had it reason to?"""
    if not (stage.ends or stage.last_one_killed):
        raise Broken("Nobody serves, though no stop was asked and the last supervisor was not killed.")


def check_present(stage: Stage, *, restarts_expected: bool) -> None:
    """Somebody serves: does everybody see the same one?"""
    stage.until_started()
    if stage.instance.systemd:
        # Where systemd has restarted it, it may not have read READY=1 yet; this returns when it has.
        stage.start_again(wait=False)
        stage.until_started()
    (supervisor,) = [each for each in stage.hub.living("supervisor") if not stage.is_leaving(each)]
    stage.instance.check(supervisor.pid, restarts_expected=restarts_expected)
    met = whom_clients_meet(stage, supervisor.release)
    if stage.harmed and any(each != str(supervisor.release) for each in met):
        met = whom_clients_meet(stage, supervisor.release)  # who waited for somebody that was killed was hung up on
    if any(each != str(supervisor.release) for each in met):
        raise Broken(f"Release {supervisor.release} serves, and clients meet {', '.join(met)}.")


def whom_clients_meet(stage: Stage, release: int) -> list[str]:
    """At each listener of this release, which serves; the hub goes on meanwhile. Nobody, where its code breaks."""
    met: list[str] = []
    if not stage.instance.listens(release) or stage.instance.breaks(release):
        return met
    reader, writer = os.pipe()

    def ask() -> None:
        met.extend(stage.instance.answers())
        os.close(writer)

    client, over = threading.Thread(target=ask), list[bool]()
    stage.hub.watch(reader, lambda: over.append(True))
    client.start()
    try:
        stage.wait(lambda: bool(over), "an answer to clients")
    finally:
        stage.hub.unwatch(reader)
        client.join()
        os.close(reader)
    return met


def reload_once_more(stage: Stage) -> None:
    """Whatever happened, the next reload to good code works."""
    stage.hub.tell("one more reload, to good code")
    stage.new = Release()
    stage.reload()
    stage.questions.clear()
    settle(stage)
    call = stage.calls[-1]
    if call.status != DONE:
        raise Broken(f"The next reload, to good code, ended with status {call.status}.")
    (supervisor,) = stage.hub.living("supervisor")
    if supervisor.release != call.release:
        raise Broken(f"The next reload is said to be done, but release {supervisor.release} serves.")
    check_present(stage, restarts_expected=True)


def stop(stage: Stage) -> None:
    """Stop it as an operator does; nothing is left."""
    stage.ask_stop()
    stage.wait(lambda: stage.stopper is None and stage.instance.is_gone(), "an end of the service after a stop")


def check_history(stage: Stage, begin: int = 0) -> None:
    """What was said and done, in the order of the log, from a line on."""
    lines = [parse(line) for line in stage.instance.log()[begin:]]
    for line in lines:
        if line.kind == "VIOLATION" and not is_excused(stage, line):
            raise Broken(f"Two workers were active at a time: {line}.")
    for line in lines:
        certain = not any(process.harmed for process in stage.hub.processes)
        if line.kind == "MISTAKEN" and certain and not stage.instance.breaks(int(line.facts["release"])):
            raise Broken(f"A check was answered by somebody else: {line}.")
    if stage.witness.broken:
        raise Broken(" ".join(stage.witness.broken))
    for call in stage.calls:
        if call.status is not None:
            check_verdict(stage, call, lines)


def is_excused(stage: Stage, line: Line) -> bool:
    """In an overlap no more than two generations take on work; one more only if it cannot have known of its end."""
    pids = {int(pid) for pid in line.facts["beside"].split(",")}
    beside = [process for process in stage.hub.processes if process.pid in pids]
    return all(stage.instance.overlaps(process.release, int(line.facts["release"])) for process in beside) and any(
        process.harmed or any(each.pid == process.parent and each.harmed for each in stage.hub.processes)
        for process in beside
    )


def check_kept(stage: Stage) -> None:
    """An overlap that failed has stopped nobody."""
    for call in stage.calls:
        asked = call.asked
        if call.status == DONE or asked is None or not stage.instance.overlaps(asked.release, call.release):
            continue
        if stage.instance.breaks(asked.release):
            continue
        if asked.alive and not asked.harmed and not stage.ends and not stage.is_leaving(asked):
            for worker in call.workers:
                if not worker.harmed and (worker.stopping or not worker.alive):
                    raise Broken(f"The reload to release {call.release} failed, and {worker} has not been kept.")


def check_ends(stage: Stage) -> None:
    """Whoever had time to end what it had begun has ended it."""
    lines = map(parse, stage.instance.log())
    ended = {line.facts["worker"] for line in lines if line.kind == "END"}
    for worker in stage.hub.processes:
        if worker.begun and str(worker.pid) not in ended and not was_cut(worker, stage.hub.supervisors):
            raise Broken(f"{worker} was cut short, though nobody had a reason to kill it.")


def check_verdict(stage: Stage, call: Call, lines: list[Line]) -> None:
    """Status 0: from then on nobody works by older code. 1: nobody works under the successor that failed. No answer:
    only if whoever was asked died before it could give one."""
    mine = [line.kind == "VERDICT" and line.facts["release"] == str(call.release) for line in lines].index(True)
    later = [line for line in lines[mine:] if line.kind == "BEGIN"]
    asked_died = call.asked is None or not call.asked.alive
    if call.status == DONE:
        for line in later:
            if int(line.facts["release"]) < call.release:
                raise Broken(f"The reload to release {call.release} was said to be done, and then: {line}.")
        return
    if call.status not in (FAILED, NO_ANSWER):
        raise Broken(f"The reload's caller ended with status {call.status}.")
    if call.status == NO_ANSWER and not asked_died:
        raise Broken("The reload's caller got no answer, though the supervisor it asked lives.")
    if call.status == FAILED and not (stage.instance.systemd and asked_died):  # systemctl has but one status for all
        successors = {
            process.pid
            for process in stage.hub.supervisors
            if process.release == call.release and not any(place.startswith("OPENING") for place in process.heard)
        }
        for line in later if not stage.ends else ():  # that of a stop is told before the successor has heard of it
            if int(line.facts["supervisor"]) in successors:
                raise Broken(f"The reload to release {call.release} was said to have failed, and then: {line}.")
        for supervisor in stage.hub.living("supervisor"):
            if supervisor.pid in successors:
                raise Broken(f"The reload was said to have failed, but {supervisor} is the one that is left.")


def parse(line: str) -> Line:
    kind, *facts = line.split()
    return Line(kind, dict(fact.split("=", 1) for fact in facts if "=" in fact))
