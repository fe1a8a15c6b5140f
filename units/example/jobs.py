"""Jobs for rq, and the worker that does them. It imports the jobs before it starts, so that broken code is noticed."""

import subprocess
import sys

from redis import Redis
from rq import Queue, Worker
from rq.worker import StopRequested

RELEASE = 1


def work(number):
    return f"{number} in release {RELEASE}"


# The handler of rq may stop a worker that has just taken a job from redis, and then the job is lost. This worker stops
# between two jobs, and where it waits for one.
class Jobs(Queue):
    must_stop = False

    @classmethod
    def dequeue_any(cls, *arguments, **options):
        if Jobs.must_stop:
            raise StopRequested
        return super().dequeue_any(*arguments, **options)


class Patient(Worker):
    queue_class = Jobs

    def request_stop(self, signum, frame):
        Jobs.must_stop = True


if __name__ == "__main__":
    worker = Patient(["default"], connection=Redis("127.0.0.1"))
    worker.worker_ttl = 17  # it waits for a job for 15 seconds less, and then looks whether it must stop
    sys.modules["jobs"] = sys.modules["__main__"]  # what is imported here is what the jobs use
    if subprocess.call(["sdsupervise", "ready"]) == 0:
        worker.work()
