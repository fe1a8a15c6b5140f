"""The service's own code that was loaded before our loaders were there: a script, and what it imports before us.

Python may have used an old compiled file for it, and a deploy may have replaced it since. Where either is so, the old
compiled file is removed and this process executes itself anew, once, before it has begun anything: as it was called,
with the same pid, environment and descriptors.
"""

import marshal
import sys
import time
from collections.abc import Iterator
from enum import Enum, auto
from importlib.machinery import SourceFileLoader
from typing import NoReturn

from ..errors import ServiceNotLoadable
from ..linux.inheritance import EXECUTED_ANEW_VARIABLE, inherited_handover, this_invocation
from ..linux.processes import flush, stat_fields
from ..linux.unpatched import os
from . import bytecode, own_code


def assure(module_name: str, *, may_execute_anew: bool = True) -> None:
    """See to it that all that was loaded of a service's own code is what the disk has; does not return where it is not.

    Raises ServiceNotLoadable where that cannot be mended, or the disk's changes all the time.
    """
    own_code.watch_class(module_name)
    before = os.environ.pop(EXECUTED_ANEW_VARIABLE, "")  # the time of the last change that it was executed anew for
    handled = int(before) if before.isdecimal() else 0
    last_change, wrong = handled or _time_of_birth(), ""
    for name, file in own_code.unknown():
        own_code.note_as_it_is(name, file)
        was = _compare(name, file, handled=handled)
        if was is _Was.OLD:
            wrong = file
        typed = str(sys.modules[name].__file__) if name == "__main__" else file
        changed = _last_change(typed) if was is _Was.UNKNOWN else 0
        if changed > last_change:
            last_change, wrong = changed, file
    if wrong and handled:
        raise ServiceNotLoadable(f"{wrong} changes while it is being loaded; start again when it is complete.")
    if wrong and may_execute_anew:
        _execute_anew(last_change)
    if wrong:
        raise ServiceNotLoadable(f"{wrong} is not what was loaded of it a moment ago; start again.")


class _Was(Enum):
    """What was loaded, beside what the disk has now."""

    SAME = auto()
    OLD = auto()
    UNKNOWN = auto()


def _compare(name: str, file: str, *, handled: int) -> _Was:
    """A module with the compiled file that Python may have loaded it from, which is gone then if it is old. Of what has
    not changed since this was executed anew, Python itself has made that file.

    Raises ServiceNotLoadable where we may not remove it.
    """
    module = sys.modules[name]
    spec = getattr(module, "__spec__", None)  # a script has none, and was compiled
    if not isinstance(getattr(module, "__loader__", None), SourceFileLoader) or spec is None or not spec.cached:
        return _Was.UNKNOWN
    try:
        source, content = bytecode.read_source(file)
        is_proven, took = bytecode.taken_by_python(spec.cached, source)
        if is_proven or took is None:
            return _Was.SAME if is_proven else _Was.UNKNOWN
        compiled = compile(content, file, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return _Was.OLD  # a moment ago it could be loaded
    if took == compiled or _last_change(file) <= handled:  # code can be unequal to itself: by a NaN
        bytecode.write(spec.cached, marshal.dumps(compiled), source)  # the next start need not compile it
        return _Was.SAME
    if handled:
        return _Was.UNKNOWN
    if not bytecode.remove(spec.cached):
        raise ServiceNotLoadable(f"Python used {spec.cached}, which is not of {file}; remove it: we may not.")
    return _Was.OLD


def _last_change(path: str) -> int:
    """When the file, or a symlink on the way to it, was last changed, as time.time_ns; 0 if it is not there."""
    try:
        return max([os.stat(path).st_ctime_ns, *_changes_of_links(path)])
    except OSError:
        return 0


def _changes_of_links(path: str, most: int = 40) -> Iterator[int]:
    there = os.path.abspath(path)
    while there != "/" and most:
        if os.path.islink(there):
            yield os.lstat(there).st_ctime_ns
            yield from _changes_of_links(os.path.join(os.path.dirname(there), os.readlink(there)), most - 1)
        there = os.path.dirname(there)


def _time_of_birth() -> int:
    """When Python began, on the clock that files have; no earlier than that, and before it can have loaded a script."""
    ticks = int(stat_fields("self")[19]) + 1
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time_ns() - int(age * 1e9)


def _execute_anew(last_change: int) -> NoReturn:
    argv, directory, environment = this_invocation()
    for fd in inherited_handover(environment) or ():
        os.set_inheritable(fd, True)
    if directory:
        os.chdir(directory)
    flush()
    os.execve(argv[0], argv, {**environment, EXECUTED_ANEW_VARIABLE: str(last_change)})
