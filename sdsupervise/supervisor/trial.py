"""The trial of new code: it says that it serves once that is true, and then before_commit checks the new code."""

import logging
from typing import TYPE_CHECKING

from ..core.takeover import Event, State
from ..linux.event_loop import EventLoop
from ..settings.check_words import may_ask_old_code
from .shell import Shell

if TYPE_CHECKING:
    from ..hooks.before_commit import BeforeCommit

_log = logging.getLogger("sdsupervise")


class Trial:
    """What a successor owes its predecessor between the lock and the commit."""

    def __init__(self, loop: EventLoop, shell: Shell) -> None:
        self._loop, self._shell = loop, shell
        self._owes_serving = False  # to the predecessor, which waits to hear it
        self._check: BeforeCommit | None = None
        if shell.settings.before_commit:
            from ..hooks import before_commit  # noqa: F401  # not in the middle of an upgrade; most services do without

            if remark := may_ask_old_code(shell.settings):
                _log.warning("%s; %s", *remark)

    @property
    def checks(self) -> bool:
        """before_commit runs."""
        return self._check is not None

    def begin(self) -> None:
        """The predecessor is to hear that our workers serve."""
        self._owes_serving = True
        self.tell_serving()

    def tell_serving(self) -> None:
        """Say so once it is true: an exclusive command was only started by its release, and takes its time."""
        shell = self._shell
        if self._owes_serving and shell.state is State.ON_TRIAL and shell.pool.up:
            self._owes_serving = False
            shell.handover.tell("serving")
            self._begin_check()

    def end(self) -> None:
        """The state is another one: before_commit has nothing more to say."""
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _begin_check(self) -> None:
        shell = self._shell
        if not shell.settings.before_commit:
            shell.happen(Event.CHECK_PASSED)
            return
        from ..hooks.before_commit import BeforeCommit

        places = shell.started.listening.places()
        self._check = BeforeCommit(
            self._loop, shell.settings, self._checked, generation=shell.generation, places=places
        )
        self._check.begin(shell.pool.in_service())

    def _checked(self, why_failed: str, output: str) -> None:
        self._check = None
        if why_failed:
            self._shell.handover.tell_reason(f"{why_failed}.", output)
        self._shell.happen(Event.CHECK_FAILED if why_failed else Event.CHECK_PASSED)
