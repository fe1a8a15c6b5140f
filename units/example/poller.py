#!/usr/bin/env python3
"""Poller does its work once a second. Two generations of it never work at the same time."""

from sdsupervise import SupervisedDaemon

RELEASE = 1


class Poller(SupervisedDaemon):
    can_do_hot_reload = True  # the new code may start while the old code runs
    worker_timeout = 10  # a worker that sends no ping for 10 seconds is replaced

    def supervised_process(self):
        # Load and warm up here. In a reload, the old worker still works.
        self.ready_to_take_over()  # returns when the old worker has stopped
        while not self.draining.wait(1):  # true as soon as this worker must stop
            self.ping_supervisor()
            print(f"release {RELEASE} polls")

    def supervised_shutdown(self):
        print(f"release {RELEASE} stops")


if __name__ == "__main__":
    Poller().run()
