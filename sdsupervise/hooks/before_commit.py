"""Runs before_commit, the command that decides whether new code may stay.

The command reaches the new generation only: the predecessor decides where its connections go; see
sockets/successor_listeners.py. With before_commit_each it runs once for each worker, while the other workers are
stopped and cannot answer.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from ..linux.event_loop import EventLoop
from ..linux.lanes import CHECK_PORTS
from ..settings.listen import variable
from ..settings.settings import Settings
from ..workers.worker import Worker
from .hook import Hook


class BeforeCommit:
    """One check. Calls `on_end` with the failure reason ("" if it passed) and the output; never after `cancel`."""

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        *,
        on_end: Callable[[str, str], None],
        generation: int,
        places: Mapping[str, str],
    ) -> None:
        """`places` gives the address of each listener, by name."""
        self._loop, self._settings, self._on_end = loop, settings, on_end
        self._environment = {
            "SDSUPERVISE_GENERATION": str(generation),
            "SDSUPERVISE_LOCAL_PORTS": "{}-{}".format(*CHECK_PORTS),
            **{variable(name): place for name, place in places.items()},
        }
        self._workers: Sequence[Worker] = ()
        self._turns: deque[Worker] = deque()
        self._run: Hook | None = None
        limit = settings.before_commit_timeout
        self._timer = loop.expect_within(limit, lambda: self._kill(f"took longer than {limit:g} s"))

    def begin(self, workers: Sequence[Worker]) -> None:
        """Start the check of these workers: all workers of the generation, and all serve."""
        self._workers = workers
        self._environment["SDSUPERVISE_WORKERS"] = str(len(workers))
        if self._settings.before_commit_each:
            self._turns.extend(workers)
            self._check_next()
        else:
            self._start("before_commit", {}, [])

    def cancel(self) -> None:
        """Kill the command. `on_end` is not called any more."""
        self._finish()
        if self._run is not None:
            self._run.cancel()

    def _check_next(self) -> None:
        worker = self._turns.popleft()
        others = [other for other in self._workers if other is not worker]
        about = {"SDSUPERVISE_WORKER_INDEX": str(worker.index), "SDSUPERVISE_WORKER_PID": str(worker.pid)}
        self._start(f"before_commit for worker {worker.index}", about, others)

    def _start(self, name: str, about: Mapping[str, str], others: Sequence[Worker]) -> None:
        for worker in self._workers:
            worker.held = worker in others
        try:
            self._run = Hook(
                self._loop,
                name,
                self._settings.before_commit,
                self._settings.before_commit_timeout,
                environment={**self._environment, **about},
                on_end=self._ended,
                holds=[worker.pid for worker in others],
            )
        except OSError as error:
            command = " ".join(self._settings.before_commit)
            self._ended(f"{name} ({command}) cannot be started: {error.strerror}", "")

    def _kill(self, why: str) -> None:
        if self._run is not None:
            self._run.kill(why)

    def _ended(self, why_failed: str, output: str) -> None:
        self._run = None
        if self._turns and not why_failed:
            self._check_next()
            return
        self._finish()
        self._on_end(why_failed, output)

    def _finish(self) -> None:
        self._timer.cancel()
        for worker in self._workers:
            worker.held = False
