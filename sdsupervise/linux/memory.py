"""How much memory a process has for itself. psutil is imported only by those who ask."""

import logging

_log = logging.getLogger("sdsupervise")


def prepare() -> None:
    """Import what private_bytes needs: not in the middle of work, and not in another version than the rest."""
    import psutil  # noqa: F401


def private_bytes(pid: int) -> int:
    """The bytes that its end would free; 0 for a process that is gone, or not ours to look at."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return 0
