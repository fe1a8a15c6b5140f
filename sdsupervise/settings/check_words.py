"""Does before_commit look as if the old code may answer it? By its words alone: a program may know by itself where the
new code is, so this is only ever a warning. What cannot work at all is refused: listen.py and
sockets/check_reach.py."""

import re

from .addresses import NEXT
from .listen import Listen
from .settings import Settings

_OF_CHECKS = r"\b61\d{3}\b|SDSUPERVISE_LOCAL_PORTS"  # the source ports by which its connections are known, see lanes.py


def may_ask_old_code(settings: Settings) -> tuple[str, str] | None:
    """That the old code may answer it, and what to write instead, a clause each; None if it does not look so."""
    if settings.checked_beside:
        for entry in settings.listen:
            if remark := _of_path(entry, settings) if entry.address.startswith("/") else _of_port(entry, settings):
                return remark
    return None


def _of_path(entry: Listen, settings: Settings) -> tuple[str, str] | None:
    path = rf"(?<![\w.-]){re.escape(entry.address)}(?!{re.escape(NEXT)}|[\w-])"
    if not any(re.search(path, word) for word in settings.before_commit):
        return None
    return (
        f"before_commit names {entry.address} (listen {entry.name!r}), where the old code answers",
        f"write {entry.address}{NEXT}, the socket of the new code",
    )


def _of_port(entry: Listen, settings: Settings) -> tuple[str, str] | None:
    port = entry.address.rpartition(":")[2]
    names_it = any(re.search(rf":{re.escape(port)}(?!\d)", word) for word in settings.before_commit)
    if not names_it or any(re.search(_OF_CHECKS, word) for word in settings.before_commit):
        return None
    return (
        f"before_commit names port {port} (listen {entry.name!r}), where the old code may answer",
        "have it connect from a source port of 61000-61999, as curl does with --local-port 61000-61999",
    )
