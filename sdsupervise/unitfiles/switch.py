"""Puts a unit under sdsupervise on this machine, and takes it out again. Nothing is stopped or started.

After `systemctl daemon-reload` systemd uses the new settings for the process that runs already. It would stop that
process by a signal that it may not know, without ExecStop=, and may no longer listen to its pings. So the switch is one
command line that stops the unit first.
"""

from collections.abc import Sequence

from ..errors import CannotWrap, UnitUnavailable
from . import host, install
from .drop_in import DropIn
from .text import for_systemctl

_TRANSIENT = "/run/systemd/transient/"


def check_kind(name: str, paths: Sequence[str]) -> None:
    """Raise CannotWrap for a unit that has no file of its own."""
    if any(path.startswith(_TRANSIENT) for path in paths):
        raise CannotWrap(f"{name} is a transient unit, which is gone when it stops; write a unit file for it.")


def write(drop_in: DropIn, given: Sequence[str] = ()) -> str:
    """Write a drop-in, and let systemd read it if the unit does not run. Returns the command that remains.

    `given` are the .socket units of the service.

    Raises CannotWrap if systemd does not see what the drop-in means; then it is taken back. NotPermitted,
    UnitUnavailable.
    """
    active = host.running(drop_in.unit)
    is_wrap = bool(drop_in.made_from)
    before = install.present(drop_in)
    install.write(drop_in)
    if active and is_wrap:
        return _switch(active, given)
    try:
        host.reread()
        lacks = host.what_systemd_lacks(drop_in)
    except UnitUnavailable as error:
        lacks = str(error).removesuffix(".")
    if lacks:
        install.take_back(drop_in, before)
        host.reread()
        raise CannotWrap(f"{drop_in.path} was written and taken back: {lacks}.")
    return f"systemctl {'restart' if active else 'start'} {_short(active or [drop_in.unit])}"


def remove(drop_in: DropIn) -> str:
    """Remove a drop-in, and let systemd see that if the unit does not run. Returns the command that remains.

    Raises CannotWrap, NotPermitted, UnitUnavailable.
    """
    install.remove(drop_in)
    active = host.running(drop_in.unit)
    if active:
        return _switch(active, _sockets_of(drop_in.unit))
    host.reread()
    return f"systemctl start {_short([drop_in.unit])}"


def _sockets_of(name: str) -> list[str]:
    try:
        return host.sockets_of(name)
    except CannotWrap:
        return []


def _switch(active: Sequence[str], given: Sequence[str]) -> str:
    others = host.stopped_with(active)
    # A client of a socket may start the unit before systemd has read the new settings.
    start = "restart" if given else "start"
    began = f"systemctl stop {_short(active)} && systemctl daemon-reload && systemctl {start} {_short(active)}"
    return f"{began} && systemctl start {_short(others)}" if others else began


def _short(names: Sequence[str]) -> str:
    return " ".join(map(for_systemctl, names))
