"""The sockets that systemd passes to a process that it starts, from .socket units and the fd store:
sd_listen_fds(3)."""

import os
from typing import NamedTuple

from ..errors import ConfigError, LibraryMissing
from ..input.checked import decimal
from ..linux.libraries import library

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_MOST = 2**16  # the most descriptors that LISTEN_FDS may name
NAMELESS = "unknown"  # sd_listen_fds_with_names(3) gives this name to a descriptor without one


class Given(NamedTuple):
    """One passed descriptor, close-on-exec. The receiver owns it."""

    name: str
    fd: int


def take() -> list[Given]:
    """Take the descriptors that systemd passed to this process, in its order, and remove the variables.

    Raises ConfigError for variables that systemd does not set like this, and LibraryMissing.
    """
    try:
        return _take() if _meant_for_us() else []
    except OSError as error:
        raise ConfigError(
            f"$LISTEN_FDS is {os.environ['LISTEN_FDS']!r}, but these descriptors do not exist ({error.strerror}); "
            f"only systemd should set it."
        ) from error
    finally:
        for variable in _VARIABLES:
            os.environ.pop(variable, None)


def announced() -> list[str]:
    """Return the names of the descriptors that `take` would return. Nothing changes."""
    count = decimal(os.environ.get("LISTEN_FDS", ""), _MOST)
    if not _meant_for_us() or count is None:
        return []
    names = os.environ.get("LISTEN_FDNAMES", "")
    return names.split(":") if names else [NAMELESS] * count


def _meant_for_us() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and "LISTEN_FDS" in os.environ


def _take() -> list[Given]:
    try:
        daemon = library("systemd.daemon")  # costs 0.7 MB, so only if there is a descriptor to take
    except ImportError as error:
        raise LibraryMissing(error) from None

    return [Given(name, fd) for fd, name in sorted(daemon.listen_fds_with_names().items())]
