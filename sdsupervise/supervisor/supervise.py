"""Runs a supervisor up to its exit status, and reports an exception that nothing else has caught."""

import logging
import signal
from collections.abc import Callable, Iterable

from ..errors import ExitStatus, SdsuperviseError
from ..handover.failure_reason import tell_reason
from ..handover.started import Started
from ..linux import processes
from ..settings.settings import Settings
from ..systemd import logs
from ..systemd.catalog import CatalogEntry, entry_fields
from ..workers.source import Source, WorkerContext
from .supervisor import Supervisor

_log = logging.getLogger("sdsupervise")

_LAST_WORDS_SECONDS = 1.0  # for unread log output to be written before the exit


def supervise(
    name: str,
    settings: Settings,
    started: Started,
    *,
    source: Callable[[WorkerContext], Source],
    stop_signals: Iterable[signal.Signals],
    can_reload: bool,
) -> int:
    """Run the supervisor of one generation; the source creates its workers. Returns the exit status.

    Raises SdsuperviseError if the source cannot be created.
    """
    try:
        supervisor = Supervisor(
            name, settings, started, source=source, stop_signals=stop_signals, can_reload=can_reload
        )
        status = supervisor.run()
        processes.flush_for_good()
        return status
    except Exception as error:
        if started.welcome is not None:
            tell_reason(error, started.welcome.channel)
        if isinstance(error, SdsuperviseError):
            raise
        extra = entry_fields(CatalogEntry.BUG)
        _log.critical("A bug in sdsupervise, leaving; please report it", exc_info=True, extra=extra)
        return ExitStatus.SOFTWARE
    finally:
        logs.finish(within_seconds=_LAST_WORDS_SECONDS)
