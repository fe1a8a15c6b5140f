"""The main role: the main pid of systemd, and the accepting end of the control socket. A reload hands it on."""

from ..control.server import ControlServer
from ..core.takeover import Event, State
from ..handover.lock import Lock
from ..handover.start_record import unlink_control
from ..linux import process_title
from ..linux.inheritance import RUN_DIRECTORY_VARIABLE
from ..workers.source import Source
from .shell import Shell


class MainRole:
    """Takes the main role, names the successor to systemd, gives the role up, and ends the supervisor."""

    def __init__(self, shell: Shell, lock: Lock, control: ControlServer | None, source: Source) -> None:
        self._shell, self._lock, self._control, self._source = shell, lock, control, source
        self.is_named = False  # systemd knows, or will know in a moment, that we are the main pid

    def take(self, systemd_believes: str) -> None:
        """Take the main role; systemd believes that the unit is "starting" or "ready"."""
        shell = self._shell
        shell.is_main = True
        process_title.show("supervisor")
        if shell.started.init is not None:
            shell.started.init.say_main(shell.settings.stop_timeout)
        shell.handover.draining.take_over()
        shell.reporter.become_main(systemd_believes=systemd_believes)
        if self._control is not None:
            self._control.accept_calls()

    def take_for_stop(self) -> None:
        """Take the notification part of the role, for a stop during the commit: systemd already listens to us."""
        if self.is_named and not self._shell.is_main:
            self._shell.reporter.become_main(systemd_believes="ready")

    def name_successor(self) -> None:
        """Send systemd the pid of the successor as the new main pid."""
        shell, peer = self._shell, self._shell.handover.peer
        assert peer is not None and peer.pid is not None
        shell.handover.tell("naming")
        shell.reporter.name_main_pid(peer.pid, shell.status.sentence(shell.state), on_processed=self._named)

    def _named(self) -> None:
        self._shell.look_and_happen(Event.BARRIER_RETURNED)

    def give_up(self) -> None:
        """Give the role up: the successor has it."""
        shell = self._shell
        shell.is_main = False
        process_title.show("draining supervisor")
        hook_seconds = shell.generation_log.retires()
        if hook_seconds:
            shell.handover.extend(hook_seconds)  # the main supervisor must wait for that before it kills us
        shell.handover.draining.leave_to_successor()
        shell.reporter.retire()
        if self._control is not None:
            self._control.stop_accepting()
            # Now, not at our exit, which may be hours from now: their calls are for the generation that serves.
            self._control.leave_idle_callers(shell.handover.leave_caller)

    def leave(self) -> None:
        """Clean up at the supervisor's exit. The last main supervisor also removes what belongs to the service."""
        shell, peer = self._shell, self._shell.handover.peer
        service_ends = shell.is_main and shell.state is State.GONE
        if shell.is_main or (peer is not None and peer.gone):
            shell.started.listening.end(files_stay=shell.started.notifier.active)
        if self._control is not None:
            self._leave_callers(self._control)
            if service_ends and shell.started.control is not None:
                unlink_control(shell.started.control.getsockname())
            if shell.is_main:
                self._lock.forget_pid()
        self._source.close()
        if service_ends:
            self._take_away_run_directory()
        shell.generation_log.leaves(is_main=shell.is_main)

    def _leave_callers(self, control: ControlServer) -> None:
        control.stop_accepting()
        if not self._shell.is_main:
            control.leave_idle_callers(self._shell.handover.leave_caller)
        control.answer_the_rest()

    def _take_away_run_directory(self) -> None:
        directory = self._shell.started.invocation.environment.get(RUN_DIRECTORY_VARIABLE)
        if directory:
            from ..instances.run_directory import take_away

            take_away(directory, self._lock.name)
