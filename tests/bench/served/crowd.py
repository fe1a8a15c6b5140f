"""A service of many workers that do nothing but ping, once a second when told to."""

import os
import time

from sdsupervise import SupervisedDaemon

_PINGS = bool(os.environ.get("BENCH_PINGS"))


class Crowd(SupervisedDaemon):
    """One of many."""

    def supervised_process(self) -> None:
        """Ping once a second, or never."""
        while True:
            time.sleep(1)
            if _PINGS:
                self.ping_supervisor()

    def supervised_shutdown(self) -> None:
        """There is nothing to shut down."""
