"""How much memory processes have. psutil, which costs megabytes itself, is imported only by those who set a limit."""

import os
import sys

from ..errors import ConfigError

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def prepare() -> None:
    """Import what private_bytes needs: not in the middle of work, and not in another version than the rest.

    Raises ConfigError where it is not installed.
    """
    try:
        import psutil  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"max_memory needs psutil, which {sys.executable} does not find: install it (Debian: python3-psutil)."
        ) from None


def private_bytes(pid: int) -> int:
    """The bytes that its end would free; 0 for a process that is gone, or not ours to look at."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return 0


def resident_bytes(pid: int) -> int:
    """The bytes it has in memory, with what it shares with others; 0 for a process that is gone."""
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
