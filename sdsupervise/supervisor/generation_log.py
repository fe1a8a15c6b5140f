"""Reports the events of one generation to the journal, the counters, and notify_command."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..code.code_version import CodeVersion, is_still_installed
from ..handover.counters import Counters
from ..handover.peer import NotifySetting
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields

if TYPE_CHECKING:
    from ..hooks.notify_command import NotifyCommand

_log = logging.getLogger("sdsupervise")


class GenerationLog:
    """Reports each event once. Events of single workers and reloads are logged where they are detected."""

    def __init__(
        self,
        loop: EventLoop,
        name: str,
        settings: Settings,
        generation: int,
        code_version: CodeVersion,
        *,
        on_quiet: Callable[[], None],
    ) -> None:
        """`on_quiet` is called when no notify_command runs or waits any more."""
        self._settings, self._generation, self._code_version = settings, generation, code_version
        self._has_served = self._has_retired = False
        self._loop, self._name, self._on_quiet = loop, name, on_quiet
        self._notify_command: NotifyCommand | None = None
        self.counters = Counters()
        if settings.notify_command:
            self._notify_command = self._make_notify_command(
                NotifySetting(settings.notify_command, settings.notify_timeout)
            )

    @property
    def busy(self) -> bool:
        """Whether a notify_command runs or waits."""
        return self._notify_command is not None and self._notify_command.busy

    def starts(self) -> None:
        """The supervisor begins."""
        _log.info(
            "Generation %d starts from %s",
            self._generation,
            self._code_version,
            extra=entry_fields(CatalogEntry.STARTING),
        )

    def serves(self, *, by_verdict: bool) -> None:
        """The generation serves. Logged once, and not if the verdict of a reload (`by_verdict`) already says so."""
        if not self._has_served and not by_verdict:
            self._say_serving()
        self._has_served = True

    def retires(self) -> float:
        """The next generation serves. Returns how many seconds a running notify_command may take at most."""
        self._has_retired = True
        return self._finish(self._settings.notify_timeout)

    def stops(self, gave_up_because: str, *, is_main: bool) -> None:
        """The service stops; `gave_up_because` is "" for a requested stop."""
        if is_main:
            extra = entry_fields(CatalogEntry.STOPPING, reason=gave_up_because or "A stop was requested.")
            _log.info("Generation %d stops", self._generation, extra=extra)
        limit = self._settings.notify_timeout
        self._finish(limit if gave_up_because else min(limit, self._settings.stop_timeout))

    def abandon(self) -> None:
        """Kill the running notify_command, and run no other."""
        if self._notify_command is not None:
            self._notify_command.abandon("the service stops")

    def leaves(self, *, is_main: bool) -> None:
        """The supervisor exits."""
        entry = (
            CatalogEntry.STOPPED if is_main else CatalogEntry.DRAINED if self._has_retired else CatalogEntry.ABANDONED
        )
        _log.info("Generation %d leaves", self._generation, extra=entry_fields(entry))

    def gave_up(self, why: str) -> None:
        """The service will stop for this reason."""
        _log.error("%s", why, extra=entry_fields(CatalogEntry.GAVE_UP, reason=why))
        self._notify(CatalogEntry.GAVE_UP, reason=why)

    def crash_loop(self, why: str, *, is_main: bool) -> None:
        """A crash loop has begun, or, with "", is over; see workers/crash_loops.py."""
        if why:
            self.counters.count("crash_loops")
            _log.warning(
                "A crash loop: %s, again and again", why, extra=entry_fields(CatalogEntry.CRASH_LOOP, reason=why)
            )
        else:
            _log.info("The crash loop is over", extra=entry_fields(CatalogEntry.CRASH_LOOP_OVER))
        if is_main:  # for a successor, the verdict of its reload is enough
            self._notify(CatalogEntry.CRASH_LOOP if why else CatalogEntry.CRASH_LOOP_OVER, reason=why)

    def verdict(
        self, entry: CatalogEntry, facts: Mapping[str, object], setting_of_new_code: NotifySetting | None
    ) -> None:
        """A reload has its verdict, and this is the main supervisor now.

        The facts are those of Reload.facts; empty if the predecessor died between its commit and the verdict. If we
        have no notify_command, the new code's is used from now on: a deployment that adds notify_command, and fails,
        must be reported too.
        """
        if self._notify_command is None and setting_of_new_code is not None:
            self._notify_command = self._make_notify_command(setting_of_new_code)
        if not facts:
            self._say_serving()
        verdict, seconds = ("done" if entry is CatalogEntry.RELOADED else "failed"), facts.get("seconds")
        seconds = seconds if isinstance(seconds, int | float) else None
        self._notify(entry, verdict=verdict, reason=str(facts.get("reason", "")), seconds=seconds)

    def _make_notify_command(self, hook: NotifySetting) -> "NotifyCommand | None":
        if self._has_served and not is_still_installed():
            _log.warning("notify_command is not run before the next reload: another sdsupervise is installed now")
            return None
        from ..hooks import notify_command  # costs memory, and most services do not need it

        facts = {"NAME": self._name, "GENERATION": str(self._generation)}
        return notify_command.NotifyCommand(self._loop, hook.command, hook.timeout, facts=facts, on_idle=self._on_quiet)

    def _say_serving(self) -> None:
        _log.info(
            "Generation %d serves %s", self._generation, self._code_version, extra=entry_fields(CatalogEntry.SERVING)
        )

    def _notify(
        self, entry: CatalogEntry, *, verdict: str = "", reason: str = "", seconds: float | None = None
    ) -> None:
        if self._notify_command is not None:
            self._notify_command.tell(
                entry, code=str(self._code_version), verdict=verdict, reason=reason, seconds=seconds
            )

    def _finish(self, within_seconds: float) -> float:
        if self._notify_command is None or not self._notify_command.busy:
            return 0.0
        self._notify_command.finish(within_seconds=within_seconds)
        return within_seconds
