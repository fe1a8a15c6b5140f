"""What has to be true in the end, whatever went wrong: seen from outside, as an operator and a client see it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sdsupervise.errors import SdsuperviseError
from tests.chaos.kill.hub import Broken
from tests.chaos.soak.client import Client
from tests.chaos.soak.faults import AROUND, BY_OPERATORS, Faults
from tests.chaos.soak.instance import Instance, Release, systemctl

PATIENCE_SECONDS = 60.0  # far more than all deadlines of a service in a row
MORE_DESCRIPTORS = 4  # than a generation of as many workers had before
CONFIG = "78"
# Whether new code of a kind serves in the end, where nobody is harmed. "serve" breaks too late for some reloads.
EXPECTED = {"good": True, "import": False, "start": False, "never": False, "check": False}


class Settled(NamedTuple):
    """One supervisor serves, all its workers do, and that is all there is."""

    pid: int
    release: int  # that answers
    generation: int
    workers: int
    descriptors: int  # of the supervisor's
    restarts: int


class Judge:
    """Of one instance."""

    def __init__(self, instance: Instance, client: Client, faults: Faults, tell: Callable[[str], None]) -> None:
        self._instance, self._client, self._faults, self._tell = instance, client, faults, tell
        self.patience_seconds = PATIENCE_SECONDS
        self.descriptors: dict[int, int] = {}  # how many a supervisor of so many workers has
        self._left: set[str] = set()  # files of supervisors that were killed, which the next generation removes

    def settle(self, *, may_need_help: bool) -> Settled:
        """Wait until the service has got over everything. Where its code could not be loaded, systemd does not start it
        again, and an operator does. Raises Broken if it does not."""
        until = time.monotonic() + self.patience_seconds
        why = "nothing was looked at"
        while time.monotonic() < until:
            self._client.wait_for_reply(1.0)
            found = self._look()
            if isinstance(found, Settled):
                self._check_descriptors(found)
                return found
            if found != why:
                self._tell(f"not yet: {found}")
            why = found
            if may_need_help and why == f"the unit has failed with status {CONFIG}":
                self._tell("systemctl start, by the operator")
                systemctl("reset-failed", self._instance.unit)
                systemctl("start", self._instance.unit, check=False)
        raise Broken(f"After {self.patience_seconds:g} s the service has not got over it: {why}.")

    def check(self, release: Release, number: int, verdict: int, before: Settled, after: Settled) -> None:
        """What was told, and what was promised. Raises Broken."""
        faults, instance = self._faults, self._instance
        harmless = set(faults.done) <= set(AROUND)
        failures = self._client.take_failures()
        if harmless and release.kind in EXPECTED and (verdict == 0) is not EXPECTED[release.kind]:
            raise Broken(f"The reload to {release.kind} code ended with status {verdict}, though nobody was harmed.")
        if verdict == 0 and after.release != number:
            raise Broken(f"The reload to release {number} is said to be done, and release {after.release} answers.")
        is_same = after.pid == before.pid
        if verdict != 0 and is_same and after.release != before.release:
            raise Broken(f"The reload failed, its predecessor is left, and release {after.release} answers.")
        if verdict != 0 and not is_same and harmless and release.kind != "serve":
            raise Broken(f"The reload failed, and pid {before.pid} is main no more, but {after.pid}.")
        is_successor = after.generation == before.generation + 1 and after.restarts == before.restarts
        told_late = faults.hit or set(faults.done) & {*BY_OPERATORS, "freeze"}
        if verdict != 0 and is_successor and not is_same and not told_late:
            raise Broken(f"The reload is said to have failed, and its successor, pid {after.pid}, serves.")
        # Of an exclusive command nobody serves while the next one warms up.
        lost = [failure for failure in failures if failure.failure != "late" or instance.kind != "command"]
        if lost and harmless and release.kind != "serve":
            raise Broken(f"Clients lost something, though nobody was harmed: {lost[:5]}.")
        refused = [failure for failure in failures if failure.failure == "refused"]
        if refused and not {"stop and start"} & set(faults.done) and release.kind != "import":
            raise Broken(f"Clients were refused, though the service was not stopped: {refused[:5]}.")
        for violation in instance.violations:
            self._check_violation(violation)
        self._check_files(after, is_new=not is_same)

    def stop(self) -> None:
        """Stop it as an operator does: nothing is left. Raises Broken."""
        instance = self._instance
        systemctl("stop", instance.unit)
        shown = instance.show()
        if shown["ActiveState"] != "inactive":
            raise Broken(f"After a stop the unit is {shown}.")
        left = [f"process {each}" for each in instance.processes()]
        left += [f"file {path}" for path in instance.run_directory.iterdir()]
        left += [f"listener {line}" for line in listeners(instance)]
        if left:
            raise Broken(f"This is left after a stop: {'; '.join(left)}.")

    def _look(self) -> Settled | str:
        """The state it has settled in; or what is still missing."""
        if not self._faults.are_over():
            return "a command of the operator runs"
        shown = self._instance.show()
        if shown["ActiveState"] == "failed":
            return f"the unit has failed with status {shown['ExecMainStatus']}"
        if (shown["ActiveState"], shown["SubState"], shown["Job"]) != ("active", "running", ""):
            return f"the unit is {shown['ActiveState']} ({shown['SubState']}), with job {shown['Job'] or 'none'}"
        try:
            facts = self._instance.status()
        except SdsuperviseError as error:
            return str(error)
        main = int(shown["MainPID"])
        if facts["pid"] != main:
            return f"systemd's main pid is {main}, and pid {facts['pid']} answers"
        workers = {int(worker["pid"]): worker for worker in facts["workers"]}
        if facts["state"] != "serving" or facts["successor"] or facts["draining"] or not facts["healthy"]:
            return f"it is {facts['state']}, with {len(workers)} workers, {facts['successor']}, {facts['draining']}"
        strangers = self._strangers(main, facts)
        if strangers:
            return f"there is somebody else: {strangers}"
        reply = self._client.wait_for_reply(5.0)
        if reply is None or reply.failure or reply.pid not in workers:
            return f"it is not a worker of the main one's that answers: {reply}, {list(workers)}"
        if shown["NFileDescriptorStore"] not in ("1", "2"):  # two where a generation was checked beside another
            return f"systemd keeps {shown['NFileDescriptorStore']} descriptors"
        return Settled(
            *(main, reply.release, int(facts["generation"]), len(workers)),
            descriptors=len(os.listdir(f"/proc/{main}/fd")),
            restarts=int(shown["NRestarts"]),
        )

    def _strangers(self, main: int, facts: Mapping[str, Any]) -> list[str]:
        """Processes of the unit that nobody knows of."""
        known = {main, facts["spare"]} | self._faults.stillborn
        for worker in facts["workers"]:
            known |= {worker["pid"], worker.get("shim")}
        return [str(process) for process in self._instance.processes() if process.pid not in known]

    def _check_descriptors(self, found: Settled) -> None:
        before = self.descriptors.setdefault(found.workers, found.descriptors)
        if found.descriptors > before + MORE_DESCRIPTORS:
            links = [_link(f"/proc/{found.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{found.pid}/fd")]
            raise Broken(f"A supervisor has {found.descriptors} descriptors, one before had {before}: {links}.")

    def _check_violation(self, violation: str) -> None:
        """In an overlap one more generation may work if it cannot have heard of its end: it was stopped."""
        pids = {int(pid) for pid in re.findall(r"\d+", violation.partition("beside")[2])}
        if "overlap" not in violation or not pids & self._faults.harmed:
            raise Broken(f"Two generations worked at a time: {violation}.")

    def _check_files(self, after: Settled, *, is_new: bool) -> None:
        instance = self._instance
        expected = {"control", "start.json", f"{instance.name}.pid"}
        left = {path.name for path in instance.run_directory.iterdir()} - expected
        left = {name for name in left if not name.startswith(f"notify.{after.pid}.")}
        too_long = left & self._left if is_new else set()
        strange = {name for name in left if not name.startswith("notify.")} | too_long
        self._left = left
        listening = listeners(instance)
        # Where new code is checked before it serves, its address has two sockets, of which the generations take turns.
        places = {line.split()[-1 if line.endswith("/control") else 1] for line in listening}
        if strange or len(places) != 2 or len(listening) > 3:
            raise Broken(f"There should be the control socket and one address: {listening}; {sorted(strange)}.")


def listeners(instance: Instance) -> list[str]:
    """The lines of the kernel's tables that are about its listening sockets."""
    unix = [
        line
        for line in Path("/proc/net/unix").read_text().splitlines()
        if line.endswith(f"{instance.run_directory}/control") and line.split()[3] == "00010000"
    ]
    local = f"0100007F:{instance.port:04X}"
    tcp = [
        line
        for line in Path("/proc/net/tcp").read_text().splitlines()
        if line.split()[1] == local and line.split()[3] == "0A"
    ]
    return unix + tcp


def _link(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return "gone"
