"""How much memory processes have. psutil, which costs megabytes itself, is imported only by those who set a limit."""

import sys

from ..errors import ConfigError


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
