"""The setting `listen`: the sockets that a service keeps, as they are written. sockets/opening.py opens them.

listen = {"http": "127.0.0.1:8000", "admin": {"address": "/run/app/admin.sock", "mode": 0o660, "group": "adm"}}
--listen http=127.0.0.1:8000 --listen admin=/run/app/admin.sock,mode=0660,group=adm
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError

WITHOUT_LIMIT = 2**31 - 1  # the kernel reduces it to net.core.somaxconn, as for a .socket unit; listen(2)
MAX_ENTRIES = 200  # the kernel passes 253 descriptors in a message, and a successor needs others too
_LONGEST_SHOWN = 60  # the characters of a value in a message
MAX_NAME_CHARACTERS = 200  # systemd allows 255, and our names in the fd store add some
VARIABLE = "SDSUPERVISE_LISTEN_"  # the beginning of the variable's name


class Listen(NamedTuple):
    """One entry of `listen`, with values of the right types. Its address is not parsed yet."""

    name: str
    address: str
    backlog: int = WITHOUT_LIMIT
    mode: int | None = None  # the mode of a UNIX socket's file, as user and group are its owner; None: 0666
    user: str = ""
    group: str = ""
    reuse_port: bool = False
    lanes: bool = False  # each generation has a socket of its own at this address; see linux/lanes.py

    @property
    def has_file_options(self) -> bool:
        """Return whether the entry has an option that only the file of a UNIX socket can have."""
        return self.mode is not None or self.has_owner

    @property
    def has_owner(self) -> bool:
        """Return whether the entry names the owner of the file."""
        return bool(self.user or self.group)


OPTIONS = tuple(field for field in Listen._fields if field not in ("name", "address"))


def check(value: object) -> tuple[Listen, ...]:
    """Return the entries of a class's attribute `listen`, a mapping of names to addresses or options.

    Raises ConfigError.
    """
    if not value:
        return ()
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"listen is {_shown(value)}; it must be a mapping of names to addresses, such as "
            '{"http": "127.0.0.1:8000"}.'
        )
    return check_number(tuple(_check_entry(name, entry) for name, entry in value.items()))


def check_number(entries: tuple[Listen, ...]) -> tuple[Listen, ...]:
    """Return the entries, if their sockets can be handed over in a reload.

    Raises ConfigError for more than MAX_ENTRIES sockets.
    """
    sockets = count_sockets(entries)
    if sockets > MAX_ENTRIES:
        raise ConfigError(f"listen has {sockets} sockets; {MAX_ENTRIES} at most can be passed on in a reload.")
    return entries


def count_sockets(entries: Iterable[Listen]) -> int:
    """Return how many sockets the entries have open at most."""
    return sum(2 if entry.lanes else 1 for entry in entries)


def with_lanes(entries: Iterable[Listen]) -> tuple[Listen, ...]:
    """Return the entries with lanes: each of the two generations gets a socket of its own at every address that allows
    two.

    While the old generation serves in its lane, it must not get new clients through another socket either.
    """
    return tuple(entry._replace(lanes=not (entry.address.startswith("@") or entry.reuse_port)) for entry in entries)


def with_lanes_ahead(entries: Iterable[Listen]) -> tuple[Listen, ...]:
    """Return the entries with the lanes that cannot be added later, after the supervisor has given up root's rights."""
    return tuple(
        entry._replace(lanes=not entry.reuse_port and (not entry.address.startswith(("/", "@")) or entry.has_owner))
        for entry in entries
    )


def why_not_checked(entries: Sequence[Listen]) -> str:
    """Return why before_commit cannot reach only the new code at these addresses while the old code serves; "" if it
    can."""
    if not entries:
        return (
            "With handover overlap, before_commit can reach only the new code through the sockets in listen, but "
            "listen is empty: list the sockets there, or set handover to exclusive."
        )
    variables: dict[str, str] = {}
    for entry in entries:
        if entry.address.startswith("@"):
            return (
                f"With handover overlap, before_commit cannot reach only the new code at the abstract address "
                f"{entry.address} (listen {entry.name!r}), which two sockets cannot share: write a path."
            )
        if entry.reuse_port:
            return (
                f"With handover overlap, before_commit cannot reach only the new code at {entry.address} (listen "
                f"{entry.name!r}), where other programs may listen: leave reuse_port out."
            )
        other = variables.setdefault(variable(entry.name), entry.name)
        if other != entry.name:
            both = f"listen {other!r} and {entry.name!r} are both ${variable(entry.name)}"
            return f"{both} for before_commit: rename one."
    return ""


def variable(name: str) -> str:
    """Return the name of the variable that gives before_commit the address of this entry."""
    return VARIABLE + "".join(letter if letter.isalnum() else "_" for letter in name).upper()


def read(text: str) -> dict[str, object]:
    """Return the unchecked entry for an option NAME=ADDRESS,OPTION=VALUE,… of a command line."""
    name, _, rest = text.partition("=")
    address, *options = rest.split(",")
    if not options:
        return {name: address}
    entry: dict[str, object] = {"address": address}
    for option in options:
        key, equals, value = option.partition("=")
        key = key.replace("-", "_")
        if key == "backlog" and value.isascii() and value.isdigit():
            entry[key] = int(value)
        else:
            entry[key] = value if equals else True
    return {name: entry}


def is_name(name: object) -> bool:
    """Return whether systemd accepts this as the name of a descriptor: systemd.socket(5), FileDescriptorName=."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME_CHARACTERS
        and all(" " <= letter < "\x7f" and letter != ":" for letter in name)
    )


def _check_entry(name: object, entry: object) -> Listen:
    if not is_name(name):
        raise ConfigError(
            f"listen has the name {_shown(name)}; it must be ASCII without ':' and control characters, "
            f"{MAX_NAME_CHARACTERS} characters at most."
        )
    where = f"listen {_shown(name)}"
    options = dict(entry) if isinstance(entry, Mapping) else {"address": entry}
    address = options.pop("address", "")
    if isinstance(address, int) and not isinstance(address, bool):
        address = str(address)  # a port alone
    if not isinstance(address, str) or not address:
        raise ConfigError(f"{where} has no address; write one such as 127.0.0.1:8000, [::1]:8000, 8000 or /path.")
    unknown = [str(option) for option in options if option not in OPTIONS]
    if unknown:
        known = ", ".join(OPTIONS)
        raise ConfigError(f"{where} has an option {unknown[0]!r}, which does not exist; known are {known}.")
    values: dict[str, Any] = {option: _CHECKS[option](where, value) for option, value in options.items()}
    checked = Listen(str(name), address, **values)
    if checked.lanes and address.startswith(("/", "@")):
        raise ConfigError(f"{where} has lanes, but {address} is a UNIX socket; only TCP has them.")
    if checked.lanes and checked.reuse_port:
        raise ConfigError(
            f"{where} has lanes and reuse_port; the kernel cannot tell lanes from the sockets of other programs."
        )
    if checked.has_file_options and not address.startswith("/"):
        raise ConfigError(f"{where} has a mode, user or group, but {address} is no path; only a file can have them.")
    return checked


def _shown(value: object) -> str:
    """Return the value as Python writes it, cut off for a message. Python refuses an integer of thousands of digits."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = "something huge"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _check_backlog(where: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= WITHOUT_LIMIT:
        raise ConfigError(f"{where}: backlog is {_shown(value)}; it must be a whole number from 1 to {WITHOUT_LIMIT}.")
    return value


def _check_mode(where: str, value: object) -> int:
    mode = int(value, 8) if isinstance(value, str) and value and not value.strip("01234567") else value
    if not isinstance(mode, int) or isinstance(mode, bool) or not 0 <= mode <= 0o777:
        raise ConfigError(
            f"{where}: mode is {_shown(value)}; it must be octal, such as 0o660 in a class or 0660 elsewhere."
        )
    return mode


def _check_account(where: str, value: object) -> str:
    account = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(account, str) or not account:
        raise ConfigError(f"{where}: {_shown(value)} is not the name of a user or group.")
    return account


def _check_flag(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(
            f"{where}: reuse_port is {_shown(value)}; it must be True or False (as an option, without '=')."
        )
    return value


def _check_lanes(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: lanes is {_shown(value)}; it must be True or False (as an option, without '=').")
    return value


_CHECKS: Mapping[str, Callable[[str, object], object]] = {
    "backlog": _check_backlog,
    "mode": _check_mode,
    "user": _check_account,
    "group": _check_account,
    "reuse_port": _check_flag,
    "lanes": _check_lanes,
}
