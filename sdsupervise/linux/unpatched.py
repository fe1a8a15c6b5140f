"""The standard library without gevent's and eventlet's patches, for a supervisor and for our side of a worker.

`monkey.patch_all()` and `eventlet.monkey_patch()` replace functions in these modules by others that switch to another
greenlet instead of blocking, and remove `select.epoll`. The service's code wants that. A supervisor must not have it:
it would enter the library's event loop, which reaps our workers. So our modules import from here what can be patched.
These are copies, made before the service's code is loaded. If a script patches before it imports us, the copies have
what the library has saved.

Alternatives considered: gevent's and eventlet's own `original()` give one name at a time, or execute a module again,
which costs memory and gives us a second os.environ.
"""

import importlib
import posix
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["_thread", "os", "select", "signal", "socket"]


def _names_of(module: str) -> dict[str, Any]:
    """Return the names of a module without any patch."""
    names = dict(vars(importlib.import_module(module)))
    if module == "os":  # posix is never patched, and os takes its functions from it; os.environ is its own
        names |= {name: value for name, value in vars(posix).items() if name[0] != "_" and name != "environ"}
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None:
        names |= gevent.saved.get(module, {})
    if eventlet is not None and eventlet.already_patched and module in ("_thread", "select", "socket"):
        names |= vars(eventlet.original(module))
    return names


def _unpatched(module: str) -> ModuleType:
    copy = ModuleType(module)
    vars(copy).update(_names_of(module))
    return copy


if TYPE_CHECKING:
    import _thread as _thread
    import os as os
    import select as select
    import signal as signal
    import socket as socket
else:
    _thread, os, select, signal, socket = map(_unpatched, ("_thread", "os", "select", "signal", "socket"))

    class _PlainSocket(socket.socket):
        """A socket class whose accept() does not create an object of the patched `socket.socket`."""

        def accept(self) -> tuple[socket.socket, object]:
            """See socket.socket.accept."""
            fd, address = self._accept()
            return _Plain(self.family, self.type, self.proto, fileno=fd), address

    def _socketpair(*arguments: int) -> tuple[socket.socket, socket.socket]:
        """See socket.socketpair."""
        one, other = _socket_of_c.socketpair(*(arguments or (socket.AF_UNIX,)))
        return tuple(_Plain(end.family, end.type, end.proto, fileno=end.detach()) for end in (one, other))

    _socket_of_c = importlib.import_module("_socket")
    _Plain, socket.socket, socket.socketpair = socket.socket, _PlainSocket, _socketpair
