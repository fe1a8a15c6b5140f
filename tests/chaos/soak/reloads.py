"""Many reloads in a row of one service: the last generation needs no more than the tenth."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.kill.cases import Outcome
from tests.chaos.kill.hub import Broken
from tests.chaos.soak.instance import Instance, Release, end_of, systemctl
from tests.chaos.soak.rounds import MOST_SECONDS

SETTLED_AT = 10  # the generation that the last ones are compared with
COMPARED = 5  # generations at either end, of which the least counts: pages come and go
MOST_GROWTH = 0.02
MAY_COME_AND_GO = {"descriptors": 1}  # a connection that has ended, which the supervisor may not have closed yet


class Reloads(NamedTuple):
    """So many of a service of this kind."""

    kind: str
    handover: str
    number: int
    systemd: bool = True

    def __str__(self) -> str:
        return f"{self.number} reloads of a {self.kind}, {self.handover}"


class Needs(NamedTuple):
    """What a generation needs: of its supervisor, and of its workers and shims together."""

    supervisor_bytes: int
    workers_bytes: int
    descriptors: int
    processes: int


def run(job: Reloads) -> Outcome:
    """Play it."""
    instance = Instance(job.kind)
    result, reason, needs = "held", "", list[Needs]()
    try:
        release = Release("good", job.handover, 0.0, {"workers": 2, "stop_timeout": 2.5})
        instance.deploy(release)
        systemctl("start", instance.unit)
        for _ in range(job.number):
            instance.deploy(release)
            call = instance.begin("reload")
            if not end_of(call, MOST_SECONDS) or call.returncode != 0:
                raise Broken(f"A reload ended with {call.returncode}.")
            needs.append(look(instance))
        reason = compare(needs)
    except Broken as broken:
        result, reason = "broken", str(broken)
    story = [str(each) for each in needs] + (instance.last_words() if result == "broken" else [])
    instance.destroy()
    return Outcome(str(job), result, reason, story, [], [])


def look(instance: Instance) -> Needs:
    """What the generation that serves needs, as soon as it is alone."""
    main = int(instance.show()["MainPID"])
    alone = wait_alone(instance, main)
    while instance.status()["draining"]:
        pass  # it has not looked yet; each answer gives it a turn to
    rss = {pid: resident_bytes(pid) for pid in alone}
    return Needs(rss[main], sum(rss.values()) - rss[main], len(os.listdir(f"/proc/{main}/fd")), len(alone))


def wait_alone(instance: Instance, main: int) -> list[int]:
    """Wait for the end of the generation before; the pids that are left."""
    for process in instance.processes():
        if process.role == "supervisor" and process.pid != main:
            wait_for_end(process.pid)
    return [process.pid for process in instance.processes()]


def wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    ended = poller.poll(MOST_SECONDS * 1000)
    os.close(pidfd)
    if not ended:
        raise Broken(f"The supervisor of the generation before, pid {pid}, does not leave.")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def compare(needs: Sequence[Needs]) -> str:
    """What the last ones need beyond the tenth, in words. Raises Broken if that is too much."""
    begin, end = needs[SETTLED_AT - COMPARED // 2 - 1 :][:COMPARED], needs[-COMPARED:]
    growth = {}
    for name in Needs._fields:
        first, last = (min(getattr(each, name) for each in part) for part in (begin, end))
        growth[name] = (last - first - MAY_COME_AND_GO.get(name, 0)) / first
    words = ", ".join(f"{name} {by:+.2%}" for name, by in growth.items())
    if max(growth.values()) > MOST_GROWTH:
        raise Broken(f"The last of {len(needs)} generations needs more than the tenth: {words}.")
    return words
