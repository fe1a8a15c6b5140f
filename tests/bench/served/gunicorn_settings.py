"""gunicorn's settings, but for those on its command line: what is measured is when a worker's first line runs."""

import os
import time


def post_fork(_server: object, _worker: object) -> None:
    """The first of the user's code that a worker runs: when it began, its pid and its master's."""
    os.write(1, b"%d %d %d\n" % (time.monotonic_ns(), os.getpid(), os.getppid()))
