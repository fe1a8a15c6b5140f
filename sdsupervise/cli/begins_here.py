"""The process of ExecReload= has just loaded today's code. So its fork goes on as the successor, without an exec.

That saves a start of Python, and most imports. Whatever an exec would reset is reset here.
"""

import sys
from collections.abc import Sequence

from .. import __file__ as _ours
from ..errors import BeginsHere
from ..linux import inheritance, process_title, processes
from ..linux.unpatched import os, signal
from ..service import isolation


def _on_disk() -> list[tuple[int, int, int]]:
    """Return what tells this interpreter and this package from others that an upgrade puts in their place."""
    try:
        facts = [os.stat(path) for path in (sys.executable, _ours)]
    except OSError:
        return []
    return [(each.st_dev, each.st_ino, each.st_ctime_ns) for each in facts]


_loaded = _on_disk()
# The first call keeps this process's own start, not the fork's: a sitecustomize.py may have loaded code of the service.
processes.clock_tick_of_start()


def may_begin_here(argv: Sequence[str]) -> bool:
    """Return whether this process, when it goes on with these arguments, does what their exec would do.

    That needs the same interpreter, with the same options, and the same script. Neither it nor our package may have
    been replaced on disk, because the successor imports more of them. No module may have come from elsewhere than it
    would come from then. And a fork has no other threads, only the locks that they hold: a sitecustomize.py may have
    started some.

    It must also be seen as what it is, which only setproctitle can do. And /proc/PID/environ must stay readable where
    it would after the exec, because the successor's command line has room for its title: then this one's has to have
    room, too. A command has processes, and so environments, of its own.
    """
    common = _common()
    is_same = list(argv[:common]) == sys.orig_argv[:common] and list(argv[common : common + 1]) == ["run"]
    keeps_environment = process_title.has_room(sys.orig_argv) or not process_title.has_room(argv) or "--" in argv
    if not (is_same and keeps_environment and process_title.can_write_title() and _has_one_thread()):
        return False
    return bool(_loaded) and _loaded == _on_disk() and not isolation.has_replaced()


def _has_one_thread() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _common() -> int:
    """How many words are not arguments of ours: the interpreter, its options, and the script."""
    return len(sys.orig_argv) - len(sys.argv[1:])


def begin(successor: BeginsHere) -> list[str]:
    """Make this process, a fork, what it would be after the exec. Returns the arguments for main()."""
    words = successor.argv[_common() :]
    sys.orig_argv[:] = successor.argv
    sys.argv[1:] = words
    os.environ.clear()
    os.environ.update(successor.environment)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    # Python's own start does these two; the fork has given all other signals what an exec leaves them.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for remembers in (inheritance.this_invocation, inheritance.directory_of_code, processes.handled_signals):
        remembers.cache_clear()
    isolation.undo()
    process_title.show("successor")
    return words
