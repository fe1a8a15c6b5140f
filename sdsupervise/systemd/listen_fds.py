"""The sockets systemd gives a process that it starts, sd_listen_fds(3): of its .socket units and of its fd store."""

import os
from typing import NamedTuple

from ..errors import ConfigError, LibraryMissing
from ..input.checked import decimal

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_MOST = 2**16  # that anybody could pass
NAMELESS = "unknown"  # what sd_listen_fds_with_names() calls a descriptor without a name


class Given(NamedTuple):
    """One descriptor, close-on-exec; the receiver owns it."""

    name: str
    fd: int


def take() -> list[Given]:
    """Those meant for this process, in systemd's order; nobody after us finds them in the environment.

    Raises ConfigError for an environment that systemd does not make, LibraryMissing.
    """
    try:
        return _take() if _meant_for_us() else []
    except OSError as error:
        raise ConfigError(
            f"$LISTEN_FDS is {os.environ['LISTEN_FDS']!r}, and no such descriptors are there "
            f"({error.strerror}); only systemd should set it."
        ) from error
    finally:
        for variable in _VARIABLES:
            os.environ.pop(variable, None)


def announced() -> list[str]:
    """The names of those that are still to be taken."""
    count = decimal(os.environ.get("LISTEN_FDS", ""), _MOST)
    if not _meant_for_us() or count is None:
        return []
    names = os.environ.get("LISTEN_FDNAMES", "")
    return names.split(":") if names else [NAMELESS] * count


def _meant_for_us() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and "LISTEN_FDS" in os.environ


def _take() -> list[Given]:
    try:
        from systemd.daemon import listen_fds_with_names  # 0.7 MB, so only where there is something to take
    except ImportError as error:
        raise LibraryMissing(error) from None

    return [Given(name, fd) for fd, name in sorted(listen_fds_with_names().items())]
