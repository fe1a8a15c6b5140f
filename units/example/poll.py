"""A Django management command that works in a loop; yourapp/management/commands/poll.py."""

import os
import signal
import subprocess
import threading

from django.core.management.base import BaseCommand

RELEASE = 1


class Command(BaseCommand):
    help = "Does some work every second."

    def handle(self, *args, **options):
        stops = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stops.set())
        if "NOTIFY_SOCKET" in os.environ and subprocess.call(["sdsupervise", "ready"]) != 0:
            return  # not our turn any more
        while not stops.wait(1):
            self.stdout.write(f"release {RELEASE} polls")  # one piece of work; it is finished before a stop
            self.stdout.flush()
        self.stdout.write(f"release {RELEASE} stops")
