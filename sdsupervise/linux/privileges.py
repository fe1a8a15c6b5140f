"""Becoming somebody else: user, group and the supplementary groups the original forgot (SEED.md, hazard 8)."""

import grp
import os
import pwd
from typing import NamedTuple

from ..errors import ConfigError


class Identity(NamedTuple):
    """Whom to become."""

    uid: int
    gid: int
    user: str | None  # whose supplementary groups to take; None = keep none


def look_up(user: str | None, group: str | None) -> Identity | None:
    """The identity for names (or numbers) of a user and a group; None if neither is given.

    Raises ConfigError for an unknown name.
    """
    if user is None and group is None:
        return None
    uid, gid, name = os.geteuid(), os.getegid(), None
    if user is not None:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        except (KeyError, OverflowError):
            raise ConfigError(f"There is no user {user!r} on this host; check --user.") from None
        uid, gid, name = entry.pw_uid, entry.pw_gid, entry.pw_name
    if group is not None:
        try:
            gid = (grp.getgrgid(int(group)) if group.isdigit() else grp.getgrnam(group)).gr_gid
        except (KeyError, OverflowError):
            raise ConfigError(f"There is no group {group!r} on this host; check --group.") from None
    return Identity(uid, gid, name)


def become(identity: Identity) -> None:
    """Drop to an identity for good: groups first, the uid last. Only root can."""
    if identity.user is not None:
        os.initgroups(identity.user, identity.gid)
    else:
        os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
