"""A wrong clock, for Python programs that find this directory on their PYTHONPATH: time.time() is as many seconds ahead
as the file $SOAK_CLOCK says, at each call. time.monotonic() is right, as it is when somebody steps the real clock."""

import os
import time

PATH = os.environ.get("SOAK_CLOCK", "")
right_time, right_time_ns = time.time, time.time_ns


def seconds_ahead() -> float:
    try:
        with open(PATH) as file:
            return float(file.read())
    except (OSError, ValueError):
        return 0.0


if PATH:
    time.time = lambda: right_time() + seconds_ahead()
    time.time_ns = lambda: right_time_ns() + round(seconds_ahead() * 1e9)
