"""A reload by systemd: `systemctl reload` beside a connection on which the supervisor reports the progress.

The new code gets the present unit, with its user, environment and sandbox. The caller sees the same progress as the
ExecReload= process, which writes to the journal.
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

_FAILED_SECONDS = 2.0  # for a verdict after systemctl failed
_NOTHING_SECONDS = 5.0  # for a reload to begin after systemctl ended
_END_SECONDS = 10.0  # for systemctl to end after the verdict
_MOST_BYTES = 4096


class AskSupervisor(Exception):
    """systemd cannot do this reload; the text is the remark for the user, "" if there is none."""


class UnitReload:
    """One reload by systemd. It begins with the supervisor's first answer to Follow, which shows the process."""

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
        """Whether systemd was asked."""
        return self._systemctl is not None

    def begin(self, sender: Sender | None, reporter: ReloadOutput) -> None:
        """Let systemd reload the unit of this supervisor.

        Raises AskSupervisor; ReloadFailed if a reload runs already; HandoverError if a unit runs the instance and
        another process has answered.
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
            # --job-mode=fail: do not replace a waiting stop or restart.
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
        if unit.runs_exec_reload:  # an earlier ExecReload= line runs
            raise ReloadFailed("NOT RELOADED. A reload is already in progress.")
        if not unit.can_reload:
            raise AskSupervisor(f"{changed}, and {unit.name} has no ExecReload= to apply that" if changed else "")
        return unit

    def tick(self) -> float:
        """Called while we wait for the supervisor. Returns the seconds until the next call.

        Raises ReloadFailed if systemctl has ended and no verdict came.
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
        """Whether systemd reports success within this many seconds, for a supervisor that sends nothing more."""
        return self._wait(seconds) and not self._why_failed()

    def end(self) -> str:
        """Wait until systemd knows the verdict, too. Returns a sentence if systemd calls the reload failed, else ""."""
        return self._why_failed() if self._wait(_END_SECONDS) else ""

    def _wait(self, seconds: float) -> bool:
        """Wait for systemctl to end. Returns False if it was not started, or does not end."""
        from subprocess import TimeoutExpired

        try:
            if self._systemctl is not None:
                self._systemctl.wait(None if seconds == math.inf else seconds)
        except TimeoutExpired:
            return False
        return self._systemctl is not None

    def close(self) -> None:
        """Stop waiting; systemd's reload goes on."""
        if self._systemctl is not None:
            self._systemctl.kill()
            self._systemctl.wait()
            os.close(self._pidfd)
        os.close(self._said)

    def _why_failed(self) -> str:
        """What systemctl printed about its failure, as a sentence; "" if it did not fail."""
        if self._systemctl is None or self._systemctl.returncode == 0:
            return ""
        said = os.pread(self._said, _MOST_BYTES, 0).decode(errors="replace")
        lines = [line for line in printable(said).splitlines() if not line.startswith("Warning: The unit file")]
        return as_sentence(" ".join(lines)) if lines else f"{self._command} failed without a message."
