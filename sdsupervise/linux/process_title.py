"""The names of our processes in `ps`, `top` and the CGroup lines of `systemctl status`.

Linux keeps two texts for a process:

    title       sdsupervise: counter worker 2 (generation 3)     ps, top -c, systemctl status
    short name  counter/3:w2                                     top, pstree, the kernel's log, /proc/PID/comm

The title replaces the command line. Only setproctitle can write it, so it needs that package. The short name is always
set. The kernel keeps 15 bytes of it, and the service's name is cut to fit.

A program that a process executes gets names of its own from the kernel. If a service sets a title or a short name
itself, that stays: this module does not overwrite it.
"""

import functools
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .libraries import library
from .unpatched import os

PREFIX = "sdsupervise: "
MOST_BYTES = 15  # of a short name; proc_pid_comm(5)
_MOST_AFTER_SERVICE = 42  # bytes of a title: "draining worker 1000 (generation 10000)"


class _Words(NamedTuple):
    """The names of a role; `{}` stands for a worker's index."""

    in_title: str
    in_short_name: str


# In the order in which the guide lists them.
ROLES = {
    "supervisor": _Words("supervisor", "sup"),
    "successor": _Words("successor", "next"),
    "draining supervisor": _Words("draining supervisor", "old"),
    "worker": _Words("worker {}", "w{}"),
    "spare worker": _Words("spare worker", "spare"),
    "draining worker": _Words("draining worker {}", "d{}"),
    "child of worker": _Words("child of worker {}", "w{}+"),
    "shim": _Words("shim of worker {}", "shim{}"),
    "holder": _Words("holder of workers", "hold"),
    "reload": _Words("reload", "reload"),
    "check": _Words("check", "check"),
    "reader": _Words("reader of its file", "read"),
    "loader": _Words("loader of its class", "load"),
    "keeper": _Words("keeper of the terminal", "tty"),
    "init": _Words("init of the container", "init"),
    "daemon": _Words("daemon", "daemon"),
}


class Names(NamedTuple):
    """The names of one process."""

    title: str
    short_name: str


class _Process:
    """What is known of this process. A forked process begins with a copy of its parent's."""

    service = ""
    generation = 0  # 0: none, or not known yet
    index = 0  # of the worker
    shown = Names("", "")
    keeps_title = keeps_name = False  # the service's own code has set it
    has_written_title = False


_process = _Process()


def introduce(service: str, generation: int = 0) -> None:
    """Note the service and the generation of this process, and of its later forks."""
    _process.service, _process.generation = service, generation


def names_of(role: str, index: int = 0) -> Names:
    """Return the names for a role, one of ROLES, and the worker with this index."""
    words, service = ROLES[role], _fit(_process.service)
    of_generation = f" (generation {_process.generation})" if _process.generation else ""
    generation = f"/{_process.generation}" if _process.generation else ""
    after = f"{generation}:{words.in_short_name.format(index)}"
    return Names(
        f"{PREFIX}{service.title}{words.in_title.format(index)}{of_generation}",
        f"{service.short_name[: max(1, MOST_BYTES - len(after))]}{after}"[:MOST_BYTES],
    )


def show(role: str, index: int | None = None) -> None:
    """Give this process the names of this role. Without an index, it keeps that of the worker it was before.

    No other code relies on the names, so a failure is ignored.
    """
    index = _process.index if index is None else index
    _look_for_library()
    _note_what_is_not_ours()
    show_forked(names_of(role, index), index)


def show_forked(names: Names, index: int) -> None:
    """Give a freshly forked process these names, which its parent has made. It has no names of its own yet.

    Its parent has also looked for setproctitle, because a forked process gets a copy of all memory that it touches.
    """
    process, library = _process, _library
    process.index, process.shown = index, names
    if library is None:
        if not process.keeps_name:
            _write_short_name(names.short_name)
    elif not process.keeps_title:
        # This also writes the short name, so a name of the service is restored.
        short_name = _read_short_name() if process.keeps_name else names.short_name
        _write_title(library, names.title)
        library.write_short_name(short_name)


def can_write_title() -> bool:
    """Return whether setproctitle is installed."""
    _look_for_library()
    return _library is not None


def has_room(command_line: Sequence[str]) -> bool:
    """Return whether a process with this command line has room in it for every title of ours."""
    room = sum(len(os.fsencode(word)) + 1 for word in command_line)
    return len(f"{PREFIX}{_fit(_process.service).title}".encode()) + _MOST_AFTER_SERVICE < room


def is_of(command_line: bytes, service: str) -> bool:
    """Return whether a process with this command line, as in /proc, has a title of this service."""
    return command_line.startswith(f"{PREFIX}{_fit(service).title}".encode())


@functools.cache
def _fit(service: str) -> Names:
    """Return a service's name as it is shown.

    A short name has no spaces or brackets, which programs that read /proc/PID/stat do not expect.
    """
    title = "".join(character if character.isprintable() else "?" for character in service)
    return Names(f"{title} " if title else "", re.sub(r"[^\w.@+-]", "_", service or "sds", flags=re.ASCII))


# ------------------------------------------------------------------------------------------------------- the title


class _Library(NamedTuple):
    """The functions that we use of setproctitle."""

    write: Callable[[str], None]
    read: Callable[[], str]
    write_short_name: Callable[[str], None]  # of the thread that calls it


_library: _Library | None = None
_is_looked_for = False


def _look_for_library() -> None:
    """Import setproctitle, once in this process and its ancestors."""
    global _library, _is_looked_for
    if _is_looked_for:
        return
    _is_looked_for = True
    was_loaded = "setproctitle" in sys.modules
    try:
        setproctitle = library("setproctitle")
    except ImportError:
        return
    _library = _Library(setproctitle.setproctitle, setproctitle.getproctitle, setproctitle.setthreadtitle)
    if was_loaded and _library.read() != " ".join(sys.orig_argv):
        _process.keeps_title = _process.keeps_name = True


def _write_title(library: _Library, title: str) -> None:
    if _process.has_written_title:
        library.write(title)
        return
    # If the command line has room for every title of ours, SPT_NOENV stops setproctitle from overwriting the
    # environment behind it: then /proc/PID/environ stays what administrators and core dumps expect.
    keeps = has_room(sys.orig_argv) and "SPT_NOENV" not in os.environ
    if keeps:
        os.environ["SPT_NOENV"] = "1"
    try:
        library.write(title)
    finally:
        if keeps:
            del os.environ["SPT_NOENV"]
    _process.has_written_title = True


def _note_what_is_not_ours() -> None:
    """Note whether the service's own code has set a title, or a short name, since we did."""
    shown = _process.shown
    if _library is not None and _process.has_written_title and not shown.title.startswith(_library.read()):  # or cut
        _process.keeps_title = _process.keeps_name = True
    if shown.short_name and _read_short_name() not in (shown.short_name, ""):
        _process.keeps_name = True


# -------------------------------------------------------------------------------------------------- the short name


def _path() -> str:
    # Not /proc/self/comm: a process that has changed its user may not write that file, but may write this one.
    return f"/proc/self/task/{os.getpid()}/comm"


def _read_short_name() -> str:
    try:
        comm = os.open(_path(), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(comm, 64).decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(comm)


def _write_short_name(name: str) -> None:
    try:
        comm = os.open(_path(), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(comm, name.encode())
    except OSError:
        pass
    finally:
        os.close(comm)
