"""Performs the effects of the takeover table."""

from typing import assert_never

from ..core.takeover import Effect, State
from ..handover.lock import Lock
from ..linux.event_loop import EventLoop
from ..sockets.lane_drain import LaneDrain
from .main_role import MainRole
from .shell import Shell
from .trial import Trial


class Effects:
    """Performs one effect after another. What an effect causes arrives later, as an event."""

    def __init__(self, loop: EventLoop, shell: Shell, lock: Lock, trial: Trial, main_role: MainRole) -> None:
        self._loop, self._shell, self._lock, self._trial, self._main_role = loop, shell, lock, trial, main_role
        self._lane_drain: LaneDrain | None = None

    def perform(self, effect: Effect) -> None:
        """Perform one effect."""
        shell, handover = self._shell, self._shell.handover
        match effect:
            case Effect.RELEASE_WORKERS:
                shell.pool.release()
                shell.note_serving()
            case Effect.STOP_WORKERS:
                self._stop_workers()
            case Effect.KILL_WORKERS:
                shell.pool.kill()
            case Effect.OPEN_LOCK:
                self._lock.open()
            case Effect.CLOSE_LOCK:
                self._lock.close()
                handover.tell("unlocked")
            case Effect.WRITE_PID:
                self._lock.write_pid()
            case Effect.START_SUCCESSOR:
                handover.start_successor()
            case Effect.ASK_YIELD:
                handover.tell("yield")
            case Effect.TELL_SERVING:
                self._trial.begin()
            case Effect.TELL_CHECKED:
                handover.tell("checked")
            case Effect.TELL_FAILED:
                handover.tell("failed")
            case Effect.TELL_COMMITTED:
                shell.started.listening.close()  # before the success of the reload is reported
                handover.tell("committed")
            case Effect.TELL_STOP:
                handover.stop_peer()
            case Effect.TELL_EMPTY:
                handover.tell("empty")
            case Effect.KILL_PEER:
                handover.kill_peer()
            case Effect.KILL_PEER_WORKERS:
                handover.kill_peer_workers()
            case Effect.NAME_MAIN_PID:
                self._main_role.name_successor()
            case Effect.TELL_READY:
                shell.tell_status(ready=True)
            case Effect.ANSWER_DONE:
                handover.answer_done()
            case Effect.ANSWER_FAILED:
                handover.answer_failed(stops=shell.state is State.STOPPING)
            case Effect.EXIT:
                self._main_role.leave()
                self._loop.stop()
            case _:
                assert_never(effect)

    def lane_is_needed(self) -> None:
        """See HandoverOwner. Stops our draining workers at once."""
        if self._lane_drain is not None:
            self._stop_workers()

    def _stop_workers(self) -> None:
        """Stop the workers: at once, or in DRAINING when their lanes are empty."""
        lanes = self._shell.started.listening.leave_lanes()
        if lanes and self._shell.state is State.DRAINING:
            patience = self._shell.settings.stop_timeout / 2
            self._lane_drain = LaneDrain(self._loop, lanes, on_empty=self._stop_workers, at_most=patience)
            return
        if self._lane_drain is not None:
            self._lane_drain.cancel()
            self._lane_drain = None
        self._shell.pool.stop()
