"""What `ps`, `top` and the CGroup lines of `systemctl status` call a process of ours.

Linux keeps two texts for a process:

    title       sdsupervise: counter worker 2 (generation 3)     ps, top -c, systemctl status
    short name  counter/3:w2                                     top, pstree, the kernel's log, /proc/PID/comm

The title takes the place of the command line. Only setproctitle can write it, so it is shown where that package is
installed. The short name is always shown; the kernel keeps 15 bytes of it, and the service's name is cut to fit.

A program that a process executes in its place gets names of its own from the kernel. A service that sets a title or a
short name itself keeps it: what is not ours any more is not written over.
"""

import functools
import re
import sys
from collections.abc import Callable
from typing import NamedTuple

from .unpatched import os

PREFIX = "sdsupervise: "
MOST_BYTES = 15  # of a short name; proc_pid_comm(5)
_MOST_AFTER_SERVICE = 42  # bytes of a title: "draining worker 1000 (generation 10000)"


class _Words(NamedTuple):
    """How a role is shown; `{}` stands for a worker's index."""

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
    """How a process is to be shown."""

    title: str
    short_name: str


class _Process:
    """This process; a forked one begins with a copy of its parent's."""

    service = ""
    generation = 0  # 0: it belongs to none, or that is not known yet
    index = 0  # of the worker
    shown = Names("", "")
    keeps_title = keeps_name = False  # which the service's own code has set
    has_written_title = False


_process = _Process()


def introduce(service: str, generation: int = 0) -> None:
    """From now on this process, and what it forks, belongs to this service and generation."""
    _process.service, _process.generation = service, generation


def names_of(role: str, index: int = 0) -> Names:
    """Of this role, one of ROLES, and the worker with this index."""
    words, service = ROLES[role], _fit(_process.service)
    of_generation = f" (generation {_process.generation})" if _process.generation else ""
    generation = f"/{_process.generation}" if _process.generation else ""
    after = f"{generation}:{words.in_short_name.format(index)}"
    return Names(
        f"{PREFIX}{service.title}{words.in_title.format(index)}{of_generation}",
        f"{service.short_name[: max(1, MOST_BYTES - len(after))]}{after}"[:MOST_BYTES],
    )


def show(role: str, index: int | None = None) -> None:
    """Show this process in this role; without an index, as the worker that was shown before.

    Nobody relies on it, so nothing is raised.
    """
    index = _process.index if index is None else index
    _look_for_library()
    _note_what_is_not_ours()
    show_forked(names_of(role, index), index)


def show_forked(names: Names, index: int) -> None:
    """The same for a process that we have just forked, and which can have no names of its own yet.

    Its parent has made the names and looked for setproctitle: whatever a freshly forked process computes costs it a
    copy of the memory that it touches.
    """
    process, library = _process, _library
    process.index, process.shown = index, names
    if library is None:
        if not process.keeps_name:
            _write_short_name(names.short_name)
    elif not process.keeps_title:
        # This writes the short name, too, so one that is not ours is put back.
        short_name = _read_short_name() if process.keeps_name else names.short_name
        _write_title(library, names.title)
        library.write_short_name(short_name)


def is_of(command_line: bytes, service: str) -> bool:
    """A process with this command line, as /proc has it, shows itself as one of this service."""
    return command_line.startswith(f"{PREFIX}{_fit(service).title}".encode())


@functools.cache
def _fit(service: str) -> Names:
    """A service's name as it is shown: programs that read /proc/PID/stat expect neither spaces nor brackets in a short
    name."""
    title = "".join(character if character.isprintable() else "?" for character in service)
    return Names(f"{title} " if title else "", re.sub(r"[^\w.@+-]", "_", service or "sds", flags=re.ASCII))


# ------------------------------------------------------------------------------------------------------- the title


class _Library(NamedTuple):
    """What we use of setproctitle."""

    write: Callable[[str], None]
    read: Callable[[], str]
    write_short_name: Callable[[str], None]  # of the thread that calls it


_library: _Library | None = None
_is_looked_for = False


def _look_for_library() -> None:
    """Once, in this process or in one that it was forked from."""
    global _library, _is_looked_for
    if _is_looked_for:
        return
    _is_looked_for = True
    was_loaded = "setproctitle" in sys.modules
    try:
        import setproctitle
    except ImportError:
        return
    _library = _Library(setproctitle.setproctitle, setproctitle.getproctitle, setproctitle.setthreadtitle)
    if was_loaded and _library.read() != " ".join(sys.orig_argv):
        _process.keeps_title = _process.keeps_name = True


def _write_title(library: _Library, title: str) -> None:
    if _process.has_written_title:
        library.write(title)
        return
    # Where the command line has room for every title of ours, setproctitle is kept from writing over the environment
    # that lies behind it: /proc/PID/environ stays what administrators and core dumps expect.
    room = sum(len(os.fsencode(word)) + 1 for word in sys.orig_argv)
    needed = len(f"{PREFIX}{_fit(_process.service).title}".encode()) + _MOST_AFTER_SERVICE
    keeps = needed < room and "SPT_NOENV" not in os.environ
    if keeps:
        os.environ["SPT_NOENV"] = "1"
    try:
        library.write(title)
    finally:
        if keeps:
            del os.environ["SPT_NOENV"]
    _process.has_written_title = True


def _note_what_is_not_ours() -> None:
    """The service's own code may have set a title, or a short name, since we did."""
    shown = _process.shown
    if _library is not None and _process.has_written_title and not shown.title.startswith(_library.read()):  # or cut
        _process.keeps_title = _process.keeps_name = True
    if shown.short_name and _read_short_name() not in (shown.short_name, ""):
        _process.keeps_name = True


# -------------------------------------------------------------------------------------------------- the short name


def _path() -> str:
    # Not /proc/self/comm: a process that has changed its user may not write that one, and every one may write this.
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
