"""The trial of new code: it reports that it serves once all its workers do, and then before_commit checks it."""

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
    """A successor's duties between the lock and the commit."""

    def __init__(self, loop: EventLoop, shell: Shell) -> None:
        self._loop, self._shell = loop, shell
        self._owes_serving = False  # the predecessor waits for "serving"
        self._check: BeforeCommit | None = None
        if shell.settings.before_commit:
            from ..hooks import before_commit  # noqa: F401  # now, not during a later upgrade of this package

            if remark := may_ask_old_code(shell.settings):
                _log.warning("%s; %s", *remark)

    @property
    def checks(self) -> bool:
        """Whether before_commit runs."""
        return self._check is not None

    def begin(self) -> None:
        """Send the predecessor "serving" as soon as our workers serve."""
        self._owes_serving = True
        self.tell_serving()

    def tell_serving(self) -> None:
        """Send "serving" if our workers serve. An exclusive command is started by its release, and needs time."""
        shell = self._shell
        if self._owes_serving and shell.state is State.ON_TRIAL and shell.pool.up:
            self._owes_serving = False
            shell.handover.tell("serving")
            self._begin_check()

    def end(self) -> None:
        """Cancel before_commit: the state has changed."""
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
            self._loop, shell.settings, on_end=self._checked, generation=shell.generation, places=places
        )
        self._check.begin(shell.pool.in_service())

    def _checked(self, why_failed: str, output: str) -> None:
        self._check = None
        if why_failed:
            self._shell.handover.tell_reason(f"{why_failed}.", output)
        self._shell.happen(Event.CHECK_FAILED if why_failed else Event.CHECK_PASSED)
