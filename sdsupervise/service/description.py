"""Reads the description of a service that a process of its own interpreter wrote; see cli/other_python.py.

It is checked as a whole: it may be wrong, and that process may have had fewer rights than this one.
"""

from typing import Any

from ..input.checked import (
    Unfit,
    any_object,
    either,
    flag,
    line,
    lines,
    list_of,
    map_of,
    maybe,
    number,
    parse,
    record,
    text,
    tuple_of,
    whole,
)
from ..input.printable import MOST_OF_TRACEBACK

MOST_BYTES = 8 * 1024 * 1024  # of a description; a service may have thousands of modules
_MOST_MODULES = 50_000

_value = either(flag, number(-1e308, 1e308), text())
_options = map_of(_value, 20, name=text())
_row = list_of(maybe(_value), 20)  # of a tuple
_setting = either(*(_value, list_of(either(_value, _row), 1000)), map_of(either(_value, _options), 300, name=text()))
_code_version = tuple_of(
    text(),
    text(100),
    list_of(tuple_of(text(), text(), text(100)), _MOST_MODULES),  # name, file, hash
    list_of(text(128 * 1024), 10_000),
)
_DESCRIPTION = record(
    {
        "name": line(300),
        "class": line(300),
        "supervised": flag,
        "can_reload": flag,
        "silent": flag,
        "detach": flag,
        "shutdown_signals": list_of(whole(1, 64), 64),
        "settings": map_of(maybe(_setting), 100, name=text()),  # not checked yet: see settings/settings.py
        "code_version": _code_version,
        "user": maybe(text()),
        "group": maybe(text()),
        "pid_file": maybe(text()),
    }
)
_END = record({"exit_status": whole(0, 255)}, {"why": tuple_of(line(20_000), lines(MOST_OF_TRACEBACK))})


def read(said: bytes) -> dict[str, Any]:
    """A description; or {"exit_status": ..., "why": ...} if there is nothing more to do.

    Raises Unfit for anything else.
    """
    if len(said) > MOST_BYTES:
        raise Unfit("", f"has more than {MOST_BYTES} bytes")
    found = any_object(parse(said), "")
    return (_END if "exit_status" in found else _DESCRIPTION)(found, "")
