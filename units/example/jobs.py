"""Jobs for rq, and the worker that does them. It imports the jobs before it starts, so that broken code is noticed."""

import subprocess
import sys

from redis import Redis
from rq import Worker

RELEASE = 1


def work(number):
    return f"{number} in release {RELEASE}"


if __name__ == "__main__":
    worker = Worker(["default"], connection=Redis("127.0.0.1"))
    sys.modules["jobs"] = sys.modules["__main__"]  # what is imported here is what the jobs use
    if subprocess.call(["sdsupervise", "ready"]) == 0:
        worker.work()
