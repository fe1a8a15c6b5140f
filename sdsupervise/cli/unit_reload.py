"""A reload that systemd does: `systemctl reload` beside a connection on which the supervisor tells how it goes.

So the new code gets the unit of today, its user, environment and sandbox, and whoever has asked sees what the process
of ExecReload= is told, which writes to the journal.
"""

import math
import os
import time
from typing import TYPE_CHECKING

from ..errors import ReloadFailed, UnitUnavailable
from ..input.printable import as_sentence, printable
from ..linux.channel import Sender
from ..systemd import manager
from ..systemd.own_programs import program
from . import own_unit
from .own_unit import Unit
from .process_usage import started_at
from .reload_output import ReloadOutput

if TYPE_CHECKING:
    import subprocess

_FAILED_SECONDS = 2.0  # the supervisor's verdict comes before systemctl ends, if there is one
_NOTHING_SECONDS = 5.0  # an ExecReload= that does not wait has ended; what it has asked for begins at once, or never
_END_SECONDS = 10.0  # the process of ExecReload= has its verdict too, and systemd is busy
_MOST_BYTES = 4096


class AskSupervisor(Exception):
    """systemd is not to do this reload, or cannot; the text is what is to be said of that, "" if nothing is."""


class UnitReload:
    """One. It begins with the supervisor's first answer to Follow, which shows who that is."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._systemctl: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._said = os.memfd_create("systemctl")
        self._ended_at: float | None = None
        self._command = ""
        self.has_progress = False  # the supervisor has reported a step of the reload
        self.wake_fds: set[int] = set()

    @property
    def began(self) -> bool:
        """systemd has been asked."""
        return self._systemctl is not None

    def begin(self, sender: Sender | None, reporter: ReloadOutput) -> None:
        """Have systemd reload the unit of this supervisor.

        Raises AskSupervisor, ReloadFailed where it does so already, HandoverError where a unit runs the instance and
        somebody else has answered.
        """
        import subprocess

        unit = self._unit(sender)
        if unit.needs_daemon_reload:
            reporter.progress(
                {"message": f"{unit.what_changed(None)}: run 'systemctl daemon-reload' first to apply it"}
            )
        words = unit.command("reload")
        self._command = " ".join(words)
        self._systemctl = subprocess.Popen(
            # It replaces no job, a stop or a restart, that somebody has asked for.
            [program(words[0]), *words[1:-1], "--job-mode=fail", "--no-ask-password", "--", words[-1]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env=manager.environment(),
        )
        self._pidfd = os.pidfd_open(self._systemctl.pid)
        self.wake_fds.add(self._pidfd)

    def _unit(self, sender: Sender | None) -> Unit:
        if sender is None:
            raise AskSupervisor("")
        if own_unit.is_others(sender):
            raise AskSupervisor(
                f"The systemd of uid {sender.uid} runs this unit, and only that user may use it: no change of the "
                f"unit is applied"
            )
        try:
            unit = own_unit.find(sender, self._path)
        except UnitUnavailable as error:
            raise AskSupervisor(f"{as_sentence(str(error))} No change of the unit is applied") from None
        if unit is None:
            raise AskSupervisor("")
        changed = unit.what_changed(started_at(sender.pid))
        if os.geteuid() != 0 and not unit.of_user:
            command = " ".join(unit.command("reload"))
            raise AskSupervisor(f"{changed}, and only root can apply that: {command}" if changed else "")
        if unit.runs_exec_reload and unit.is_around_us:  # and has lost what systemd has said to it
            raise AskSupervisor("")
        if unit.runs_exec_reload:  # a line of it that comes before that which asks the supervisor
            raise ReloadFailed("NOT RELOADED. A reload is already in progress.")
        if not unit.can_reload:
            raise AskSupervisor(f"{changed}, and {unit.name} has no ExecReload= to apply that" if changed else "")
        return unit

    def tick(self) -> float:
        """Called in a wait for the supervisor: seconds until it wants to be called again.

        Raises ReloadFailed where systemctl has ended, and there will be no verdict.
        """
        if self._systemctl is None or self.has_progress or self._systemctl.poll() is None:
            return math.inf
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        failed = self._systemctl.returncode != 0
        left = self._ended_at + (_FAILED_SECONDS if failed else _NOTHING_SECONDS) - now
        if left <= 0:
            raise ReloadFailed(f"NOT RELOADED. {self._why_failed() or f'{self._command} did not reload anything.'}")
        return left

    def went_well(self, seconds: float) -> bool:
        """What systemd says, within so many seconds, where the supervisor tells no more."""
        return self._wait(seconds) and not self._why_failed()

    def end(self) -> str:
        """There is a verdict. Wait for systemd to know it, too; what it says where it calls the reload failed."""
        return self._why_failed() if self._wait(_END_SECONDS) else ""

    def _wait(self, seconds: float) -> bool:
        """For systemctl to end; False if it was not begun, or does not."""
        from subprocess import TimeoutExpired

        try:
            if self._systemctl is not None:
                self._systemctl.wait(None if seconds == math.inf else seconds)
        except TimeoutExpired:
            return False
        return self._systemctl is not None

    def close(self) -> None:
        """Wait no longer; what systemd does goes on."""
        if self._systemctl is not None:
            self._systemctl.kill()
            self._systemctl.wait()
            os.close(self._pidfd)
        os.close(self._said)

    def _why_failed(self) -> str:
        """What systemctl said of its failure, as a sentence; "" if it did not fail."""
        if self._systemctl is None or self._systemctl.returncode == 0:
            return ""
        said = os.pread(self._said, _MOST_BYTES, 0).decode(errors="replace")
        lines = [line for line in printable(said).splitlines() if not line.startswith("Warning: The unit file")]
        return as_sentence(" ".join(lines)) if lines else f"{self._command} failed without a message."
