"""Root's rights in a service with a user of its own: what is refused while they last, and how they are dropped."""

import logging

from ..linux import privileges
from ..linux.inheritance import Invocation
from ..linux.privileges import Identity
from ..linux.unpatched import os
from ..linux.writers import who_else_may_write
from .plan import Plan

_log = logging.getLogger("sdsupervise")


def drops(identity: Identity | None) -> bool:
    """Whether this process still has rights to drop."""
    return identity is not None and os.geteuid() == 0 != identity.uid


def drop(identity: Identity | None, *, under_systemd: bool) -> None:
    """Become this user and group, with their login environment. Does nothing for None."""
    if identity is None:
        return
    if (os.geteuid(), os.getegid()) != (identity.uid, identity.gid):
        if os.geteuid() != 0:
            _log.warning(
                "Only root can run as another user or group; staying uid %d, gid %d", os.geteuid(), os.getegid()
            )
            return
        privileges.become(identity)
    privileges.set_login_environment(identity, of_systemd=under_systemd)


def refuse_code_of_others(identity: Identity | None, invocation: Invocation) -> None:
    """Refuse to load code as root that another user may write.

    Raises ConfigError.
    """
    if drops(identity):
        from ..linux import root_environment

        root_environment.refuse_code_of_others(invocation.environment, invocation.directory)


def warn_of_code(plan: Plan, identity: Identity | None) -> None:
    """Warn if only the class or its own command line names the user: then root has loaded the class's code."""
    if not plan.code or identity is None or identity.uid == 0 or os.geteuid() != 0:
        return
    writer = who_else_may_write(plan.code)
    _log.warning(
        "Root loaded the code of %s before it became %s. Whoever may write that code becomes root at the next "
        "start%s. Name the user in the instance's file, or with 'sdsupervise run --user %s'",
        *(plan.name, plan.user, f" ({writer})" if writer else "", plan.user),
    )
