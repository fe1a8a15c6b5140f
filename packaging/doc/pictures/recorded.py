"""The service whose reload is recorded: it takes time where services do, so that a picture shows what happens when."""

from threading import Event

from sdsupervise import SupervisedDaemon

WARM_UP_SECONDS = 0.4  # loads a model, say
LAST_REQUEST_SECONDS = 0.35  # of the request that a worker works on when it must stop


class Recorded(SupervisedDaemon):
    """Says when it warms up, serves, finishes what it began, and leaves."""

    can_do_hot_reload = True

    def supervised_process(self) -> None:
        """As SupervisedDaemon."""
        self._say("warms up")
        Event().wait(WARM_UP_SECONDS)
        self.ready_to_take_over()
        self._say("serves")
        while not self.draining.wait(5):
            self.ping_supervisor()

    def supervised_shutdown(self) -> None:
        """As SupervisedDaemon."""
        self._say("finishes")
        Event().wait(LAST_REQUEST_SECONDS)
        self._say("leaves")

    def _say(self, what: str) -> None:
        print(f"recorded: {what} {self.worker_index}", flush=True)
