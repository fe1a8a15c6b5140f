"""The drop-in that adapts the template sdsupervise@.service to the file of one instance."""

import math

from ..instances.instance import Instance
from ..settings.addresses import parse
from ..settings.listen import count_sockets
from ..settings.settings import Settings
from .changes import STORE
from .drop_in import DropIn
from .lifecycle import GRACE_SECONDS

LOWEST_FREE_PORT = 1024  # ports below need CAP_NET_BIND_SERVICE
_TEMPLATE_STOP_SECONDS, _TEMPLATE_START_SECONDS = 60, 90
_EVERYWHERE = ("127.0.0.1", "::1", "0.0.0.0", "::")


def fit(instance: Instance, settings: Settings) -> DropIn:
    """The drop-in with what this instance needs beyond the template, with notes; it may be empty."""
    lines: list[str] = []
    notes: list[str] = []
    others: list[str] = []
    hosts = [(listen.name, parse(listen.address)) for listen in settings.listen]
    ports = {name: address.name for name, address in hosts if isinstance(address.name, tuple)}
    user, group = instance.values.get("user"), instance.values.get("group")
    if user is not None and not any(listen.user or listen.group for listen in settings.listen):
        lines.append(f"User={user}")
        lines += [f"Group={group}"] if group is not None else []
        notes.append(f"User={user}: the supervisor need not be root to become that")
        low = [name for name, where in ports.items() if where[1] < LOWEST_FREE_PORT]
        if low:
            lines.append("AmbientCapabilities=CAP_NET_BIND_SERVICE")
            notes.append(f"CAP_NET_BIND_SERVICE: {', '.join(low)} is below port {LOWEST_FREE_PORT}")
        for listen in settings.listen:
            if listen.address.startswith("/"):
                notes.append(
                    f"{user} must be allowed to make {listen.address}: RuntimeDirectory= can make its directory"
                )
    elif user is not None:
        notes.append("User= left out: only root can give a socket's file to the user or group that listen says")
    stop = math.ceil(settings.stop_timeout) + GRACE_SECONDS
    if stop > _TEMPLATE_STOP_SECONDS:
        lines.append(f"TimeoutStopSec={stop}")
        notes.append(f"TimeoutStopSec={stop}: stop_timeout is {settings.stop_timeout:g}")
    start = math.ceil(max(settings.reload_timeout, settings.start_timeout) + settings.takeover_timeout) + GRACE_SECONDS
    if start > _TEMPLATE_START_SECONDS:
        lines.append(f"TimeoutStartSec={start}")
        notes.append(
            f"TimeoutStartSec={start}: so long may a start or a reload take by start_timeout and reload_timeout"
        )
    sockets = count_sockets(settings.listen)
    if sockets > STORE:
        lines.append(f"FileDescriptorStoreMax={sockets}")
        notes.append(f"FileDescriptorStoreMax={sockets}: listen has so many sockets")
    if settings.restart != "always":
        lines.append(f"Restart={settings.restart}")
        notes.append(f"Restart={settings.restart}: as restart says")
    if settings.restart_prevent:
        statuses = " ".join(map(str, sorted({*settings.restart_prevent})))
        lines.append(f"RestartPreventExitStatus={statuses}")
        notes.append(f"RestartPreventExitStatus={statuses}: as restart_prevent says")
    single = [name for name, where in ports.items() if where[0] not in _EVERYWHERE]
    if single:
        others.append("Wants=network-online.target")
        notes.append(f"network-online.target: {', '.join(single)} needs an address that a machine may get late at boot")
    return DropIn(f"sdsupervise@{instance.name}.service", tuple(lines), tuple(notes), tuple(others))
