"""Services that run greenlets, by gevent or eventlet: how our side of a worker cooperates with them.

Neither is imported here: if the service's code has not imported it, it does not use it.
"""

import importlib
import socket as sockets_of_service
import sys
from collections.abc import Mapping
from typing import Any

from ..linux.unpatched import os, select, socket


def renew_in_worker() -> None:
    """In a freshly forked worker, replace an event loop made in the supervisor: all workers would share its epoll."""
    if gevent := sys.modules.get("gevent"):
        gevent.reinit()
    if (hubs := sys.modules.get("eventlet.hubs")) and _hub_of_eventlet(hubs) is not None:
        hubs.use_hub()


def for_service(listeners: Mapping[str, socket.socket]) -> dict[str, socket.socket]:
    """Return the listeners as objects of the service's own `socket.socket`, whose accept() lets other greenlets run."""
    kind = sockets_of_service.socket
    if issubclass(socket.socket, kind):
        return dict(listeners)
    return {name: kind(one.family, one.type, one.proto, fileno=one.detach()) for name, one in listeners.items()}


def raise_in_main(exception: BaseException) -> bool:
    """From a signal handler, let the main greenlet raise an exception when it runs next.

    The greenlet that is running now continues. Returns False, and does nothing, if the main greenlet itself is running.
    """
    greenlet = sys.modules.get("greenlet")
    current = greenlet.getcurrent() if greenlet is not None else None
    if current is None or current.parent is None:
        return False
    library, hub = _hub()
    if hub is None or current is (hub if library == "gevent" else hub.greenlet):
        raise exception  # both libraries pass a SystemExit on to the main greenlet
    main = current
    while main.parent is not None:
        main = main.parent
    if library == "gevent":
        hub.loop.run_callback(main.throw, exception)
    else:
        hub.schedule_call_global(0, main.throw, exception)
    return True


def run_here() -> bool:
    """Return whether this thread runs greenlets, which a wait must not block."""
    return _hub()[1] is not None


def wait_readable(fd: int, timeout_seconds: float | None = None) -> bool:
    """Wait until fd is readable, for at most `timeout_seconds`, while other greenlets run; return whether it is.

    Call this only where greenlets run.
    """
    library, _ = _hub()
    if library == "gevent":
        poller = importlib.import_module("gevent.select").poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(None if timeout_seconds is None else timeout_seconds * 1000))
    own = os.dup(fd)  # only one greenlet may wait for a descriptor
    try:
        sys.modules["eventlet.hubs"].trampoline(own, read=True, timeout=timeout_seconds, timeout_exc=TimeoutError)
    except TimeoutError:
        return False
    finally:
        os.close(own)
    return True


def _hub() -> tuple[str, Any]:
    """Return the library of this thread's greenlets and its event loop, which is None if there is none."""
    gevent, hubs = sys.modules.get("gevent._hub_local"), sys.modules.get("eventlet.hubs")
    if gevent is not None and (hub := gevent.get_hub_if_exists()) is not None:
        return "gevent", hub
    return "eventlet", _hub_of_eventlet(hubs) if hubs is not None else None


def _hub_of_eventlet(hubs: Any) -> Any:  # noqa: ANN401
    return getattr(hubs._threadlocal, "hub", None)
