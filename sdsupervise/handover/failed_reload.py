"""The verdict of a reload that failed, whether a successor or a signal was to make it."""

import logging

from ..input.printable import as_sentence
from ..systemd.catalog import CatalogEntry, entry_fields
from .reload import OldCode, Reload

_log = logging.getLogger("sdsupervise")


def fail(
    reload: Reload, reason: str, old_code: OldCode, *, traceback: str = "", silent: object = None
) -> tuple[CatalogEntry, dict[str, object]]:
    """Give a reload the verdict that it failed, and log it. `silent`: see `silent_worker` of the answer.

    Return the event, and the facts about the reload for notify_command.
    """
    reload.fail(reason, traceback, old_code.facts() | {"silent_worker": silent})
    serves = CatalogEntry.ROLLED_BACK if old_code.serves else CatalogEntry.NOBODY_SERVES
    entry = CatalogEntry.RELOAD_STOPPED if old_code.stops else serves
    said = f"{as_sentence(reason)} {old_code.sentence()}"
    extra = entry_fields(entry, verdict="failed", seconds=reload.seconds, reason=reason)
    _log.error("Not reloaded: %s", said, extra=extra)
    facts = reload.facts()
    if entry is CatalogEntry.NOBODY_SERVES:
        facts["reason"] = said
    return entry, facts
