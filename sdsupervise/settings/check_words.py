"""Whether before_commit looks as if the old code may answer it.

This reads only the words of the command. A program may find the new code by itself, so the result is only a warning.
listen.py and sockets/check_reach.py refuse what cannot work.
"""

import re

from .addresses import NEXT
from .listen import Listen
from .settings import Settings

_OF_CHECKS = r"\b61\d{3}\b|SDSUPERVISE_LOCAL_PORTS"  # the source ports that mark its connections, see linux/lanes.py


def may_ask_old_code(settings: Settings) -> tuple[str, str] | None:
    """Return a warning if the old code may answer before_commit: what is wrong, and what to write instead, a clause
    each.

    Returns None if the words give no such hint.
    """
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
        "let it connect from a source port of 61000-61999, as curl does with --local-port 61000-61999",
    )
