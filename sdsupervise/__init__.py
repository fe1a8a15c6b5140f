"""sdsupervise: supervise a service under systemd, and reload it to new code without a gap or a lie."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .service.daemon import Daemon, SupervisedDaemon

__version__ = "0.1.0"
__all__ = ["Daemon", "SupervisedDaemon", "__version__"]


def __getattr__(name: str) -> object:
    """What a service is made of, imported when asked for: `sdsupervise ready` is quick, and needs nothing of it."""
    if name in ("Daemon", "SupervisedDaemon"):
        from .service import daemon

        return getattr(daemon, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
