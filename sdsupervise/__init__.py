"""sdsupervise: supervise a service under systemd, and reload it to new code without a gap or a lie."""

__version__ = "0.1.0"

from .daemon import Daemon, SupervisedDaemon

__all__ = ["Daemon", "SupervisedDaemon", "__version__"]
