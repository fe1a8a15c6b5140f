"""The change to another user: user, group, supplementary groups (which the original forgot), and a login's
variables."""

import grp
import os
import pwd
from typing import NamedTuple

from ..errors import ConfigError
from ..input.checked import MOST_ID, decimal

# Variables that a login session sets, and systemd never does. They lead to the private directories of another user.
_OF_SESSION = (
    *("TMPDIR", "MAIL", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"),
    *("XDG_SESSION_ID", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "XAUTHORITY", "KRB5CCNAME"),
)


# The shells that systemd does not put into SHELL (is_nologin_shell in its src/basic/user-util.c).
_NO_SHELLS = (
    *("/bin/nologin", "/sbin/nologin", "/usr/bin/nologin", "/usr/sbin/nologin"),
    *("/bin/false", "/usr/bin/false", "/bin/true", "/usr/bin/true"),
)
_NOBODY = 65534
_CAP_KILL = 5  # linux/capability.h


class Identity(NamedTuple):
    """The user and group to become."""

    uid: int
    gid: int
    user: str | None  # whose supplementary groups to take; None: none

    @property
    def groups(self) -> list[int]:
        """All its groups, by number."""
        return os.getgrouplist(self.user, self.gid) if self.user is not None else [self.gid]


def look_up(user: str | None, group: str | None) -> Identity | None:
    """Return the identity for a user and a group, by names or numbers; None if neither is given.

    Raises ConfigError for an unknown name.
    """
    if user is None and group is None:
        return None
    uid, gid, name = os.geteuid(), os.getegid(), None
    if user is not None:
        try:
            number = decimal(user, MOST_ID)
            entry = pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
        except (KeyError, ValueError):
            raise ConfigError(f"There is no user {user!r} on this host; check --user.") from None
        uid, gid, name = entry.pw_uid, entry.pw_gid, entry.pw_name
    if group is not None:
        try:
            number = decimal(group, MOST_ID)
            gid = (grp.getgrnam(group) if number is None else grp.getgrgid(number)).gr_gid
        except (KeyError, ValueError):
            raise ConfigError(f"There is no group {group!r} on this host; check --group.") from None
    return Identity(uid, gid, name)


def become(identity: Identity) -> None:
    """Become this identity for good: the groups first, the uid last. Only root can. Raises OSError."""
    if identity.user is not None:
        os.initgroups(identity.user, identity.gid)
    else:
        os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)


def set_login_environment(identity: Identity, *, of_systemd: bool) -> None:
    """Set HOME, USER, LOGNAME and SHELL as systemd does with User= (systemd.exec(5)), and remove another user's
    session.

    HOME and SHELL are removed if the user has none. With `of_systemd`, the environment is a unit's, not a session's;
    then a variable that the unit itself sets, with a value that is not root's, stays.
    """
    if identity.user is None:
        return
    entry, root = pwd.getpwnam(identity.user), _root()
    for name, value, of_root in (
        ("HOME", _home(entry), root.pw_dir),
        ("USER", entry.pw_name, root.pw_name),
        ("LOGNAME", entry.pw_name, root.pw_name),
        ("SHELL", _shell(entry), root.pw_shell),
    ):
        if of_systemd and os.environ.get(name, of_root) != of_root:
            continue
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    if not of_systemd:
        for name in _OF_SESSION:
            os.environ.pop(name, None)


def _home(entry: pwd.struct_passwd) -> str:
    """Return the HOME that systemd sets; "" for none. systemd never looks up that of nobody."""
    is_one = entry.pw_dir.startswith("/") and entry.pw_dir.strip("/") and entry.pw_uid != _NOBODY
    return entry.pw_dir if is_one else ""


def _shell(entry: pwd.struct_passwd) -> str:
    """Return the SHELL that systemd sets; "" for none."""
    shell = entry.pw_shell
    return shell if shell.startswith("/") and shell not in _NO_SHELLS and entry.pw_uid != _NOBODY else ""


def is_unambiguous(uid: int) -> bool:
    """Return whether a process that shows this uid really has it.

    A user namespace that does not map every uid (PrivateUsers=yes) shows all other users as the overflow uid, mostly
    65534, which is "nobody"; user_namespaces(7).
    """
    try:
        with open("/proc/sys/kernel/overflowuid") as number, open("/proc/self/uid_map") as ranges:
            overflow, mapped = int(number.read()), sum(int(line.split()[2]) for line in ranges)
    except (OSError, ValueError):
        return uid != 65534
    return uid != overflow or mapped >= 2**32 - 1


def may_signal_all() -> bool:
    """Return whether this process has CAP_KILL, so that it may signal processes of other users."""
    try:
        with open("/proc/self/status") as lines:
            held = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return False
    return bool(held >> _CAP_KILL & 1)


def _root() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(0)
    except KeyError:
        return pwd.struct_passwd(("root", "x", "0", "0", "root", "/root", "/bin/sh"))
