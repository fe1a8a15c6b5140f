"""Performs the requests of operators and systemd that requests.py has accepted."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.phases import PHASES
from ..core.takeover import Event, State
from ..errors import ExitStatus
from ..handover.reload import Reload
from ..linux.event_loop import EventLoop
from ..systemd.control_process import ask_control_pid
from .shell import Shell

if TYPE_CHECKING:
    from .signal_reload import SignalReload

_log = logging.getLogger("sdsupervise")


class Operators:
    """The owner of the requests; see RequestsOwner in requests.py."""

    def __init__(self, loop: EventLoop, shell: Shell) -> None:
        self._loop, self._shell = loop, shell
        self._was_interrupted = False  # Ctrl-C was pressed once
        self.end_at_once = False  # Ctrl-C was pressed again
        self._signal_reload: SignalReload | None = None
        if shell.settings.reload_signal != "none":
            from . import signal_reload  # costs memory, and most services do not need it

            self._signal_reload = signal_reload.SignalReload(loop, shell)

    @property
    def state(self) -> State:
        """See RequestsOwner."""
        return self._shell.state

    @property
    def is_main(self) -> bool:
        """See RequestsOwner."""
        return self._shell.is_main

    @property
    def reload_waits(self) -> bool:
        """See RequestsOwner."""
        is_signalled = self._signal_reload is not None and self._signal_reload.running is not None
        return is_signalled or self._shell.handover.reloads.waiting is not None

    def look(self) -> None:
        """Something has happened: a reload by a signal may have its verdict."""
        if self._signal_reload is not None:
            self._signal_reload.look()

    def facts(self) -> dict[str, object]:
        """See RequestsOwner."""
        return self._shell.status.facts(self._shell.state)

    def code(self) -> dict[str, object]:
        """See RequestsOwner."""
        return self._shell.status.code()

    def ask_control_pid(self, on_answer: Callable[[int], None]) -> None:
        """See RequestsOwner."""
        ask_control_pid(self._loop, on_answer)

    def pass_on(self, number: int) -> list[int]:
        """See RequestsOwner."""
        return [*self._shell.pool.pass_on(number), *self._shell.handover.pass_on(number)]

    def reload(self, reload: Reload) -> None:
        """See RequestsOwner."""
        if reload.not_applied:
            _log.warning("This reload applies no change of the unit: %s", reload.not_applied)
        if self._signal_reload is not None:
            self._signal_reload.begin(reload)
        else:
            self._shell.handover.ask(reload, at_most=self._shell.longest_wait)

    def refuse(self, reload: Reload, why: str) -> None:
        """See RequestsOwner."""
        stops = PHASES[self._shell.state].is_stopping
        self._shell.handover.refuse(reload, why, stops=stops)

    def scaled(self) -> None:
        """See RequestsOwner."""
        self._shell.tell_status_soon()

    def stop(self) -> None:
        """See RequestsOwner."""
        self._shell.happen(Event.STOP_ASKED)

    def interrupt(self) -> None:
        """See RequestsOwner. The first Ctrl-C stops the service and logs how long that may take; the second kills."""
        shell, handover = self._shell, self._shell.handover
        if not self._was_interrupted:
            self._was_interrupted = True
            shell.happen(Event.STOP_ASKED)
            if shell.is_main and shell.state is not State.GONE:
                peer_seconds = handover.peer.stop_timeout if handover.peer is not None else 0.0
                seconds = max(shell.settings.stop_timeout, peer_seconds, handover.draining.seconds_left())
                _log.warning("Stopping; workers may take up to %.0f s; Ctrl-C again ends them at once", seconds)
        elif not self.end_at_once and PHASES[shell.state].is_stopping and shell.state is not State.GONE:
            self.end_at_once = True
            shell.exit_status = ExitStatus.INTERRUPTED
            _log.warning("Ctrl-C again; ending all workers at once")
            shell.generation_log.abandon()
            handover.draining.kill()
            shell.happen(Event.DEADLINE)  # the deadline of the stop
