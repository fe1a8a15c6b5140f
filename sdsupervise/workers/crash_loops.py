"""Detects crash loops: reports once when a loop begins, and once when it is over.

A pool is in a crash loop when the workers of one of its slots have crashed LOOP times in a row, each of them before it
had lived respawn_forgiven_after seconds. With a growing delay before respawn, the delay has been doubled three times by
then. The loop is over when every such slot has a worker that has lived so long, or is removed. A reload ends it too;
its verdict says so, and the new generation counts from 0.
"""

from collections.abc import Callable

from ..linux.event_loop import EventLoop, Timer

LOOP = 4  # crashes in a row


class CrashLoops:
    """Watches one pool. Calls `say` with the reason when a loop begins, and with "" when it is over."""

    def __init__(self, loop: EventLoop, forgiven_after: float, *, say: Callable[[str], None]) -> None:
        self._loop, self._forgiven_after, self._say = loop, forgiven_after, say
        self._slots: dict[int, Timer | None] = {}  # slots in a loop; the timer runs while a worker serves there

    def crashed(self, index: int, in_a_row: int, why: str) -> None:
        """A worker in this slot has crashed, as the last of `in_a_row` crashes."""
        if in_a_row < LOOP:
            self.cured(index)
            return
        began = not self._slots
        self._cancel(index)
        self._slots[index] = None
        if began:
            self._say(why)

    def serves(self, index: int) -> None:
        """A worker in this slot begins to serve: start to measure for how long."""
        if index in self._slots and self._slots[index] is None:
            self._slots[index] = self._loop.call_later(self._forgiven_after, lambda: self.cured(index))

    def cured(self, index: int) -> None:
        """The worker of this slot has lived long enough, or has left in a regular way."""
        if index in self._slots:
            self._cancel(index)
            del self._slots[index]
            if not self._slots:
                self._say("")

    def _cancel(self, index: int) -> None:
        timer = self._slots.get(index)
        if timer is not None:
            timer.cancel()
