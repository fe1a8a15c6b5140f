"""The service that is measured: it does nothing, so that all of the time is the supervisor's.

Run with BENCH_ONLY_IMPORT=1 it is the baseline of a reload: this interpreter, these imports, then the first line.
"""

import os
import signal
import sys
import time

from sdsupervise import SupervisedDaemon


class Trivial(SupervisedDaemon):
    """Says when it began, then obeys orders."""

    can_do_hot_reload = True
    delay_before_respawn = 0.0
    respawn_backoff_limit = 0.0  # it is killed over and over, and not for its faults

    def supervised_process(self) -> None:
        """Tell when our first line ran and when we were released; then ping when told to."""
        began = time.monotonic_ns()
        self.ready_to_take_over()
        released = time.monotonic_ns()
        os.write(1, b"%d %d %d %d\n" % (began, released, os.getpid(), os.getppid()))
        while order := os.read(0, 16):
            ping, count = self.ping_supervisor, int(order)
            started = time.monotonic_ns()
            for _ in range(count):
                ping()
            os.write(1, b"%d\n" % (time.monotonic_ns() - started))
        os.kill(os.getppid(), signal.SIGTERM)  # whoever measures is gone
        signal.pause()

    def supervised_shutdown(self) -> None:
        """There is nothing to shut down."""


class Simple(Trivial):
    """The same without a word about taking over: it is let in when it may serve, and begins then."""

    can_do_hot_reload = False


for module in os.environ.get("BENCH_SERVICE_IMPORTS", "").split():
    __import__(module)  # what a bigger service would import at its top

if __name__ == "__main__":
    if os.environ.get("BENCH_ONLY_IMPORT"):
        os.write(1, b"%d\n" % time.monotonic_ns())
        os._exit(0)
    sys.exit((Simple if os.environ.get("BENCH_SIMPLE") else Trivial)().run())
