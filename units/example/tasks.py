"""Tasks for celery, which note in a file when each of them begins and ends."""

import os
import subprocess
import time

from celery import Celery
from celery.signals import worker_init

RELEASE = 1

app = Celery("tasks", broker="redis://127.0.0.1", backend="redis://127.0.0.1")
app.conf.update(
    # A task leaves the queue when it is done, not when it begins: what a crash cuts off is done again. So is, now and
    # then, what has just been done when a worker stops: as ever with celery, tasks must bear to be done twice.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # No worker holds tasks that another one could do.
    worker_prefetch_multiplier=1,
    # After so many seconds redis hands out again what a killed worker had: longer than the longest task.
    broker_transport_options={"visibility_timeout": 3600},
    broker_connection_retry_on_startup=True,
)


@worker_init.connect
def wait_for_our_turn(**_):
    """All is imported and nothing has begun: from here on only one release may work. Returns when it is this one."""
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
    os.write(notes, line)  # at once and in one piece, whoever else writes
    os.close(notes)
