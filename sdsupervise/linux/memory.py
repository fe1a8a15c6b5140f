"""The memory of processes. psutil itself costs megabytes, so only a service with a limit imports it."""

import sys

from ..errors import ConfigError
from .libraries import library


def prepare() -> None:
    """Import what private_bytes needs, at the start: an upgrade may change the installed version later.

    Raises ConfigError if psutil is not installed, or if the service has another module of that name.
    """
    try:
        ours = library("psutil")
    except ImportError:
        raise ConfigError(
            f"max_memory needs psutil, which {sys.executable} does not find: install it (Debian: python3-psutil)."
        ) from None
    if sys.modules.get("psutil") is not ours:  # where psutil looks itself up
        raise ConfigError("max_memory needs psutil, and the service has another module of that name: rename it.")


def private_bytes(pid: int) -> int:
    """Return how many bytes the end of the process would free (its unique set size); 0 if it is gone or hidden from
    us."""
    psutil = library("psutil")
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return 0
