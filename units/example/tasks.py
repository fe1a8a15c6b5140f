"""Tasks for celery. Each writes to a file when it begins and when it ends."""

import os
import subprocess
import time

from celery import Celery
from celery.signals import worker_init

RELEASE = 1

app = Celery("tasks", broker="redis://127.0.0.1", backend="redis://127.0.0.1")
app.conf.update(
    # A task leaves the queue when it is done, not when it begins. A task that a crash cuts off runs again. Sometimes a
    # task that ends while its worker stops runs again, too: as always with celery, a task may run twice.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # No worker holds tasks that another worker could do.
    worker_prefetch_multiplier=1,
    # After this many seconds, redis hands out the tasks of a killed worker again. Set it longer than the longest task.
    broker_transport_options={"visibility_timeout": 3600},
    broker_connection_retry_on_startup=True,
)


@worker_init.connect
def wait_for_our_turn(**_):
    """All code is imported, and no task has begun. Returns when only this release may work."""
    if subprocess.call(["sdsupervise", "ready"]) != 0:
        raise SystemExit("Not our turn any more.")


@app.task
def work(number, seconds):
    note("begins", number)
    time.sleep(seconds)
    note("ends", number)
    return f"release {RELEASE}"


def note(what, number):
    line = f"{number} {what} in release {RELEASE}\n".encode()
    notes = os.open("/var/lib/celery/notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(notes, line)  # in one piece, even if others write
    os.close(notes)
