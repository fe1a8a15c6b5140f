"""When workers die again and again: said once when that begins, and once when it is over.

A pool is in a crash loop when the workers of one of its slots have crashed LOOP times in a row, none of them after it
had lived respawn_forgiven_after: the wait before the next has been doubled three times by then, where it doubles. It is
over when every such slot has a worker that has lived so long, or is not there any more. A reload ends it too, and its
verdict says so; the new generation counts anew.
"""

from collections.abc import Callable

from ..linux.event_loop import EventLoop, Timer

LOOP = 4  # crashes


class CrashLoops:
    """Of one pool. `say` hears why it is in a loop, and "" when it is over."""

    def __init__(self, loop: EventLoop, forgiven_after: float, say: Callable[[str], None]) -> None:
        self._loop, self._forgiven_after, self._say = loop, forgiven_after, say
        self._slots: dict[int, Timer | None] = {}  # those in a loop; the timer runs while one serves there

    def crashed(self, index: int, in_a_row: int, why: str) -> None:
        """A slot's worker has, the last of so many in a row."""
        if in_a_row < LOOP:
            self.cured(index)
            return
        began = not self._slots
        self._cancel(index)
        self._slots[index] = None
        if began:
            self._say(why)

    def serves(self, index: int) -> None:
        """A slot has a worker that serves: for how long?"""
        if index in self._slots and self._slots[index] is None:
            self._slots[index] = self._loop.call_later(self._forgiven_after, lambda: self.cured(index))

    def cured(self, index: int) -> None:
        """A slot's worker has lived long enough, or leaves as it may."""
        if index in self._slots:
            self._cancel(index)
            del self._slots[index]
            if not self._slots:
                self._say("")

    def _cancel(self, index: int) -> None:
        timer = self._slots.get(index)
        if timer is not None:
            timer.cancel()
