"""Can before_commit reach the new code alone, while the old code serves? settings/listen.py asks the settings; this
module asks the host. Each answer is a sentence, "" for yes."""

from collections.abc import Sequence

from ..linux import lanes
from ..linux.privileges import Identity
from ..linux.unpatched import os
from .opening import WantedListener, may_replace

SHARED = (
    "before_commit in an overlap cannot reach the new code alone through the sockets of a .socket unit, which both "
    "generations share: let listen open them instead, or leave before_commit out."
)


def why_not(wanted: Sequence[WantedListener], identity: Identity | None) -> str:
    """Of a service with these listeners that runs as this identity (None: as we do)."""
    return why_not_by_ports(wanted) or why_not_by_files(wanted, identity)


def why_not_by_ports(wanted: Sequence[WantedListener]) -> str:
    """Clients on this host may have the ports that its connections are known by."""
    return lanes.why_ports_are_taken() if any(not listener.address.path for listener in wanted) else ""


def why_not_by_files(wanted: Sequence[WantedListener], identity: Identity | None) -> str:
    """The socket of the new code could not take a path."""
    uid, groups = (os.geteuid(), os.getgroups()) if identity is None else (identity.uid, identity.groups)
    for listener in wanted:
        path = listener.address.path
        if path and not may_replace(path, uid, groups):
            return (
                f"before_commit has the new code's socket take the path {path} (listen {listener.name!r}), and uid "
                f"{uid} may not write to {os.path.dirname(path)}: give the socket a directory of the service's own."
            )
    return ""
