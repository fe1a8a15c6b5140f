"""AppArmor's profile of a program, which the kernel attaches by the program's path, and what a supervisor needs of it.

Such a profile lets a program notify systemd, at /run/systemd/notify. A command notifies its supervisor, at a path below
/run/sdsupervise.
"""

import itertools
import os
import re
from collections.abc import Sequence

from ..errors import CannotWrap, NotReadable
from ..linux.files import read_regular
from .launchers import word_that_is_run

_ENABLED = "/sys/module/apparmor/parameters/enabled"
_DIRECTORY = "/etc/apparmor.d"
_MOST_BYTES = 1024 * 1024  # of a profile
_LETS_ALL = re.compile(r"flags\s*=\s*\([^)]*\b(?:complain|unconfined)\b")


def check(unit: str, words: Sequence[str]) -> None:
    """Raise CannotWrap if a profile keeps the program of a command line from notifying a supervisor."""
    if _text(_ENABLED).strip() != "Y":
        return
    program = word_that_is_run(words)
    if program.startswith("/"):
        _check(unit, program, os.path.normpath(program).strip("/").replace("/", "."))  # by convention
    launchers = {*map(os.path.basename, words)}
    for option, name in itertools.pairwise(words):
        if "aa-exec" in launchers and option in ("-p", "--profile") and "/" not in name:
            _check(unit, program, name)


def _check(unit: str, program: str, name: str) -> None:
    path, local = f"{_DIRECTORY}/{name}", f"{_DIRECTORY}/local/{name}"
    profile = _text(path)
    if not profile or any(os.path.lexists(f"{_DIRECTORY}/{off}/{name}") for off in ("disable", "force-complain")):
        return
    if not _LETS_ALL.search(profile) and "/run/sdsupervise/" not in profile + _text(local):
        raise CannotWrap(
            f"{unit} runs {program}, which may not notify a supervisor by its AppArmor profile. Write the line "
            f"`/run/sdsupervise/** w,` to {local}, and run apparmor_parser --replace {path}."
        )


def _text(path: str) -> str:
    """The content of a file; "" if it cannot be read."""
    try:
        return read_regular(path, _MOST_BYTES).decode(errors="replace")
    except NotReadable:
        return ""
