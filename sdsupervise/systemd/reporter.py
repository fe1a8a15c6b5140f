"""Reports to systemd, which follow from the state of the one supervisor that is its main pid."""

import os
from collections.abc import Callable

from ..linux.event_loop import EventLoop, Timer
from .notify import Notifier, extend_timeout, reloading, status

# While a phase lasts, systemd's time-outs are extended in small steps. A large step would also delay the watchdog by as
# much.
_EXTEND_EVERY_SECONDS = 5.0
_EXTEND_BY_SECONDS = 15.0


class Reporter:
    """Sends state changes, watchdog pings and extensions of time-outs to systemd; nothing before `become_main`."""

    def __init__(self, loop: EventLoop, notifier: Notifier) -> None:
        self._loop = loop
        self._notifier = notifier
        self._is_main = False
        self._reported = ("", "")  # main state and status sentence
        self._watchdog: Timer | None = None
        self._extension: Timer | None = None
        self._barrier: int | None = None
        self._on_processed: Callable[[], None] | None = None

    def become_main(self, *, systemd_believes: str) -> None:
        """Begin to report. systemd reads our messages from now on, and `systemd_believes` is its state of the unit."""
        self._is_main = True
        self._reported = (systemd_believes, "")
        if self._notifier.active:
            self._ping()

    def retire(self) -> None:
        """Stop reporting, because another process is the main pid."""
        self._is_main = False
        for timer in (self._watchdog, self._extension):
            if timer is not None:
                timer.cancel()

    def report(self, main_state: str, sentence: str, *, ready: bool = False, systemd_reloads: bool = False) -> None:
        """Report the state that systemd shows (starting, ready, reloading, stopping) and the sentence; with `ready`,
        also READY=1.

        With `systemd_reloads`, systemd's own ExecReload= process waits for us, and no RELOADING=1 is sent. If it were,
        and we died, systemd 253 and newer would wait for READY=1 after that process has ended, instead of restarting
        the unit; systemd 257 waited for all of TimeoutStartSec=.
        """
        if not self._is_main or not self._notifier.active or ((main_state, sentence) == self._reported and not ready):
            return
        changed = main_state != self._reported[0]
        self._reported = (main_state, sentence)
        words: tuple[str, ...] = ("READY=1",) if ready else ()
        if changed and main_state == "stopping":
            words = ("STOPPING=1",)
        elif changed and main_state == "reloading" and not systemd_reloads:
            words = reloading()
        self._notifier.send(*words, status(sentence))
        if main_state == "ready":
            self._stop_extending()
        elif self._extension is None:
            self._extend()

    def name_main_pid(self, pid: int, sentence: str, *, on_processed: Callable[[], None]) -> None:
        """Make another process the unit's main pid: sd_notify(3), MAINPID=. Call `on_processed` when systemd has
        processed that."""
        # This is one datagram, so the unit is never without READY=1 under its new main pid.
        self._notifier.send(f"MAINPID={pid}", "READY=1", "WATCHDOG=1", status(sentence))
        self._reported = ("ready", sentence)
        self._stop_extending()  # systemd no longer reads our messages
        self._barrier = self._notifier.barrier()
        self._on_processed = on_processed
        if self._barrier is None:
            self._loop.call_later(0, self._processed)
        else:
            self._loop.watch(self._barrier, self._processed)

    def forget_barrier(self) -> None:
        """Stop waiting for systemd."""
        self._on_processed = None
        if self._barrier is not None:
            self._loop.unwatch(self._barrier)
            os.close(self._barrier)
            self._barrier = None

    def _processed(self) -> None:
        on_processed = self._on_processed
        self.forget_barrier()
        if on_processed is not None:
            on_processed()

    def _extend(self) -> None:
        self._notifier.send(extend_timeout(_EXTEND_BY_SECONDS))
        self._extension = self._loop.call_later(_EXTEND_EVERY_SECONDS, self._extend)

    def _stop_extending(self) -> None:
        if self._extension is not None:
            self._extension.cancel()
            self._extension = None

    def _ping(self) -> None:
        interval = self._notifier.watchdog_interval
        if interval is not None:
            self._notifier.send("WATCHDOG=1")
            self._watchdog = self._loop.call_later(interval, self._ping)
