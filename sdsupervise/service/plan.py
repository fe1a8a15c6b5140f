"""What a daemon asks for, before anything is taken or opened for it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..code.code_version import CodeVersion
from ..control import client
from ..errors import ConfigError
from ..linux.privileges import Identity
from ..linux.unpatched import os
from ..settings.listen import Listen
from ..sockets import check_reach
from ..sockets.opening import WantedListener


class Plan(NamedTuple):
    """What a daemon asks for."""

    name: str
    read_code_version: Callable[[], CodeVersion]  # called when the process has its final user and directory
    pid_file: str | None
    user: str | None
    group: str | None
    silent: bool
    detach: bool
    supervised: bool
    can_reload: bool
    listen: Sequence[Listen] = ()
    overlaps: bool = False
    checked: bool = False  # before_commit checks it while the old generation serves
    is_instance: bool = False  # it has a file in a directory of instances
    code: str = ""  # the file of a class that is loaded before start()


def wanted_listeners(plan: Plan, identity: Identity | None) -> list[WantedListener]:
    """The listed sockets. A UNIX socket's file belongs to the service's user, unless its entry names another owner.

    Raises ConfigError.
    """
    uid, gid = (identity.uid, identity.gid) if identity is not None and os.geteuid() == 0 else (None, None)
    wanted = [WantedListener.of(listen, uid, gid) for listen in plan.listen]
    for listener in wanted:
        if why := listener.why_not_beside_control(client.control_path(plan.pid_file)):
            raise ConfigError(why)
    why = check_reach.why_not(wanted, identity if os.geteuid() == 0 else None) if plan.checked else ""
    if why:
        raise ConfigError(why)
    return wanted
