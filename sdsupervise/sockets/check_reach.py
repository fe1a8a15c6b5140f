"""Whether before_commit can reach the new code alone, while the old code serves, on this host.

settings/listen.py checks the settings. Each function returns the reason as a sentence, or "" if it can.
"""

from collections.abc import Sequence

from ..linux import lanes
from ..linux.privileges import Identity
from ..linux.unpatched import os
from .opening import WantedListener, may_replace

SHARED = (
    "With handover overlap, before_commit cannot reach only the new code through the sockets of a .socket unit, "
    "which both generations share: open them with listen instead, or leave before_commit out."
)


def why_not(wanted: Sequence[WantedListener], identity: Identity | None) -> str:
    """Check a service with these listeners that runs as this identity; None is this process's own."""
    return why_not_by_ports(wanted) or why_not_by_files(wanted, identity)


def why_not_by_ports(wanted: Sequence[WantedListener]) -> str:
    """Return why other clients on this host may get the source ports that mark before_commit's connections."""
    return lanes.why_ports_are_taken() if any(not listener.address.path for listener in wanted) else ""


def why_not_by_files(wanted: Sequence[WantedListener], identity: Identity | None) -> str:
    """Return why the new code's socket cannot take over a path."""
    uid, groups = (os.geteuid(), os.getgroups()) if identity is None else (identity.uid, identity.groups)
    for listener in wanted:
        path = listener.address.path
        if path and not may_replace(path, uid, groups):
            return (
                f"before_commit makes the socket of the new code take the path {path} (listen {listener.name!r}), "
                f"and uid "
                f"{uid} may not write to {os.path.dirname(path)}: put the socket into a directory of the service's own."
            )
    return ""
