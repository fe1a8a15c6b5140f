"""The service's own code that Python loaded before our loaders were installed: a script, and its imports before ours.

Python may have used an old compiled file for it, and a deploy may have replaced it since. In both cases the old
compiled file is removed, and this process executes itself again, once, before it does anything else: with the same
arguments, pid, environment and descriptors.
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
from ..linux.processes import clock_tick_of_start, flush
from ..linux.unpatched import os
from . import bytecode, own_code


def assure(module_name: str, *, may_execute_anew: bool = True) -> None:
    """Ensure that all loaded modules of a service's own code are what the disk has; if they are not, execute again.

    Raises ServiceNotLoadable if that cannot be mended, or if the files keep changing.
    """
    own_code.watch_class(module_name)
    # the time of the last change, for which this process was executed again
    before = os.environ.pop(EXECUTED_ANEW_VARIABLE, "")
    handled = int(before) if before.isdecimal() else 0
    last_change, wrong = handled or _time_of_start(), ""
    for name, file in own_code.unknown():
        own_code.note_from_disk(name, file)
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
        raise ServiceNotLoadable(f"{wrong} has changed since it was loaded; start again.")


class _Was(Enum):
    """How a loaded module compares with the file on disk."""

    SAME = auto()
    OLD = auto()
    UNKNOWN = auto()


def _compare(name: str, file: str, *, handled: int) -> _Was:
    """Compare a module with the compiled file that Python may have loaded, and remove that file if it is old.

    If the source has not changed since this process was executed again, Python itself has made the compiled file.
    Raises ServiceNotLoadable if we may not remove an old one.
    """
    module = sys.modules[name]
    spec = getattr(module, "__spec__", None)  # a script has none, and was compiled
    if not isinstance(getattr(module, "__loader__", None), SourceFileLoader) or spec is None or not spec.cached:
        return _Was.UNKNOWN
    try:
        source, content = bytecode.read_source(file)
        is_proven, took = bytecode.used_by_python(spec.cached, source)
        if is_proven or took is None:
            return _Was.SAME if is_proven else _Was.UNKNOWN
        compiled = compile(content, file, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return _Was.OLD  # it could be loaded a moment ago
    if took == compiled or _last_change(file) <= handled:  # code with a NaN is not equal to itself
        bytecode.write(spec.cached, marshal.dumps(compiled), source)  # then the next start need not compile it
        return _Was.SAME
    if handled:
        return _Was.UNKNOWN
    if not bytecode.remove(spec.cached):
        raise ServiceNotLoadable(
            f"Python used {spec.cached}, which does not match {file}; sdsupervise has no "
            f"permission to remove it, so remove it yourself."
        )
    return _Was.OLD


def _last_change(path: str) -> int:
    """Return when the file, or a symlink on its path, last changed, in nanoseconds since the epoch; 0 if it does not
    exist."""
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


def _time_of_start() -> int:
    """Return when Python started, in nanoseconds since the epoch by the clock of files; at most one clock tick too
    late."""
    ticks = clock_tick_of_start() + 1
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
