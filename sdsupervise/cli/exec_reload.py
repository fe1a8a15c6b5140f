"""`sdsupervise reload` as the process of ExecReload=, which systemd runs with the unit's present settings.

This process starts the successor, so that the new code gets those settings. It uses the command line of the start
record, never one that a supervisor answers. If it cannot start it, the supervisor does, and no change of the unit is
applied.
"""

import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from ..control.answers import Answer
from ..errors import ExitStatus, HandoverError, ReloadFailed, SdsuperviseError, UnitUnavailable
from ..handover import start_record
from ..handover.spawn import spawn
from ..handover.start_record import StartRecord
from ..linux import process_title
from ..linux.channel import Sender
from ..linux.inheritance import Invocation, named_directory
from ..linux.processes import uid_of
from ..linux.root_environment import refuse_code_of_others
from ..linux.signals import do_nothing, handle
from ..systemd import manager
from ..systemd.units import unit_of
from .begins_here import may_begin_here

_STOP_SIGNAL_SECONDS = 2.0  # for systemd's stop signal to arrive


class Successor(NamedTuple):
    """What this process would start as the successor; without a record the supervisor starts it, because `why_not`."""

    record: StartRecord | None
    why_not: str = ""

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of the Reload call. The supervisor reports `why_not` to its other callers."""
        return {"exec_reload": True, "spawns": self.record is not None, "why_not": self.why_not or None}

    def spawn(self, answer: Answer) -> None:
        """Start the successor, as a child of systemd with the unit's present environment and sandbox.

        If it need not execute anything, this raises BeginsHere in it. Raises HandoverError if this process did not
        offer it, the order has wrong descriptors, or the sender is not the unit's main process.
        """
        is_fit = self.record is not None and len(answer.fds) == 2 and _are_channel_and_pipe(answer.fds)
        if self.record is None or not is_fit or not _is_main_process(answer.sender):
            for fd in answer.fds:
                os.close(fd)
            raise HandoverError("The supervisor sent this process an invalid order to start the successor.")
        channel_fd, stderr_fd = answer.fds
        environment = {**os.environ, **self.record.environment}
        try:
            # systemd has resolved WorkingDirectory= for this process, so its directory is the successor's.
            spawn(
                *(Invocation(list(self.record.argv), "", environment), channel_fd, stderr_fd),
                executes=not may_begin_here(self.record.argv),
            )
        finally:
            os.close(channel_fd)
            os.close(stderr_fd)


def successor_of(path: str, listener_uid: int) -> Successor:
    """The successor by the start record beside this control socket, where a process of `listener_uid` listens.

    That process also wrote the record, with the same uid. The owner of the file alone proves nothing: after User= is
    changed to root, systemd gives everything in the run directory to root.

    Raises ConfigError if this process is root, the service is not, and our environment leads to code of other users.
    """
    main_pid = os.environ.get("MAINPID", "")
    if os.geteuid() == 0 and main_pid.isdecimal() and uid_of(int(main_pid)) != 0:
        refuse_code_of_others(os.environ, named_directory())
    if listener_uid not in (0, os.geteuid()):
        return Successor(
            None, f"The service was started as uid {listener_uid}; to change the user, restart the service."
        )
    try:
        record = start_record.read(start_record.path_beside(path))
    except HandoverError as error:
        return Successor(None, str(error))
    credentials = record.environment.get("CREDENTIALS_DIRECTORY", "")
    if credentials and not os.access(credentials, os.R_OK | os.X_OK):
        # systemd gives them to ExecStart= alone, and a mount namespace of our own hides them.
        return Successor(
            None, "ExecReload= cannot read the unit's credentials; to apply all changes, restart the unit."
        )
    return Successor(record)


def end(reload_and_wait: Callable[[], int]) -> NoReturn:
    """Reload and exit.

    `systemctl stop` during a reload ends systemd's reload job, and signals this process too. From then on, any exit
    status except 0, and a death by the signal, would mark the unit as failed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    process_title.introduce(unit_of(os.getpid())[0].removesuffix(".service").removeprefix("sdsupervise@"))
    process_title.show("reload")
    # For `systemctl kill` on the whole unit. Not ignored: a successor would inherit that.
    handle({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}, do_nothing)
    patience = 0.0
    try:
        status = reload_and_wait()
    except SdsuperviseError as error:
        print(error, file=sys.stderr, flush=True)
        status = error.exit_status
        if isinstance(error, ReloadFailed) and error.because_of_stop:
            patience = _STOP_SIGNAL_SECONDS  # if systemd asked for the stop, its signal will arrive
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: during Python's own cleanup a stop could arrive, and the status would be wrong.
    os._exit(ExitStatus.OK if signal.sigtimedwait({signal.SIGTERM}, patience) else status)


def _is_main_process(sender: Sender | None) -> bool:
    """Whether the sender is the unit's main process: at our start, or after a reload that ran then."""
    if sender is None or str(sender.pid) == os.environ.get("MAINPID"):
        return sender is not None
    unit, of_user = unit_of(os.getpid())
    try:
        return str(sender.pid) == manager.properties(unit, "MainPID", of_user=of_user)["MainPID"]
    except UnitUnavailable:
        return False


def _are_channel_and_pipe(fds: list[int]) -> bool:
    channel, pipe = fds
    if not (stat.S_ISSOCK(os.fstat(channel).st_mode) and stat.S_ISFIFO(os.fstat(pipe).st_mode)):
        return False
    with socket.socket(fileno=os.dup(channel)) as end:
        return (end.family, end.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
