"""The claim: everything that may need root's rights. That is the lock, the control socket, the run directory, and the
listed sockets.

A first generation takes all of it. A successor gets most of it from its predecessor. With `drop`, the claim ends by
giving up root's rights.
"""

import sys
from typing import TYPE_CHECKING, NamedTuple

from ..control import client, server
from ..errors import AlreadyRunning, ExitStatus, HandoverError, SdsuperviseError
from ..handover import start_record
from ..handover.welcome import Welcome, receive_welcome
from ..linux import inheritance, privileges, process_title
from ..linux.channel import Channel
from ..linux.pid_file import PidFile
from ..linux.privileges import Identity
from ..linux.unpatched import os, signal, socket
from ..sockets.early import Ahead, check_before_start
from ..systemd import logs
from ..systemd.notify import Notifier
from . import background, rights, second_start
from .failure import or_tell_reason
from .plan import Plan, wanted_listeners

if TYPE_CHECKING:
    from ..linux.init import Init

_WELCOME_SECONDS = 60.0  # for the predecessor's welcome


class Claim(NamedTuple):
    """What a service has before its code is loaded."""

    notifier: Notifier
    invocation: inheritance.Invocation
    identity: Identity | None
    pid_file: PidFile | None  # None for a successor, which opens it after it dropped its rights
    control: socket.socket | None
    run_directory: str  # made by this process; "" if not
    # For a successor: the channel to the predecessor, which reads our standard error until the code is loaded.
    channel: Channel | None
    own_stderr: int
    welcome: Welcome | None
    ahead: Ahead | None = None  # sockets opened before the rights are dropped
    init: "Init | None" = None  # if pid 1 is ours

    @property
    def generation(self) -> int:
        """The number of this generation, counted from 1."""
        return self.welcome.generation if self.welcome is not None else 1

    def give_back(self) -> None:
        """Undo the claim, because there will be no service.

        What only root can remove stays, and does not hinder the next start.
        """
        if self.ahead is not None:
            self.ahead.take_back()
        if self.welcome is not None or self.pid_file is None:
            return
        self.pid_file.forget_pid()
        if self.control is not None:
            path = self.control.getsockname()
            self.control.close()
            start_record.unlink_control(path)
        if self.run_directory:
            from ..instances import run_directory

            run_directory.take_away(self.run_directory, self.pid_file.name)


def claim(plan: Plan, *, drop: bool) -> Claim | int:
    """Take everything that may need root's rights; with `drop`, give those up then.

    Returns an exit status instead if this process has nothing more to do.

    Raises SdsuperviseError.
    """
    inheritance.fill_standard_descriptors()
    invocation = inheritance.this_invocation()
    handover = inheritance.inherited_handover(invocation.environment)
    if handover is None:
        process_title.introduce(plan.name)
        init = _leave_to_init() if plan.supervised and os.getpid() == 1 else None
        claimed = _claim_first(plan, invocation, init)
        if init is not None:
            init.close_in_children()
        return _drop_early(plan, claimed) if drop and not isinstance(claimed, int) else claimed
    channel = Channel.from_fd(handover[0])

    def as_successor() -> Claim:
        claimed = _claim_as_successor(plan, invocation, channel, handover[1])
        return _drop_early(plan, claimed) if drop else claimed

    return or_tell_reason(channel, as_successor)


def _drop_early(plan: Plan, claimed: Claim) -> Claim:
    """Open the listed sockets, and give up the rights."""
    wanted, welcome = wanted_listeners(plan, claimed.identity), claimed.welcome
    try:
        if welcome is None:
            ahead = Ahead.of_first(wanted, claimed.notifier)
        else:
            ahead = Ahead.of_successor(wanted, welcome.listeners, welcome.fds)
    except SdsuperviseError:
        claimed.give_back()
        raise
    rights.drop(claimed.identity, under_systemd=claimed.notifier.active)
    return claimed._replace(ahead=ahead)


def _leave_to_init() -> "Init":
    from ..linux.init import leave_to_init

    return leave_to_init()


def _claim_first(plan: Plan, invocation: inheritance.Invocation, init: "Init | None") -> Claim | int:
    notifier = Notifier()
    _set_up_process(plan, generation=1)
    identity = privileges.look_up(plan.user, plan.group)
    rights.refuse_code_of_others(identity, invocation)
    check_before_start(wanted_listeners(plan, identity))  # errors in them are reported before anything is changed
    path = client.control_path(plan.pid_file) if plan.supervised else ""
    own = {0, os.geteuid()} | ({identity.uid} if identity is not None else set())
    start = second_start.Start(
        *(plan.name, plan.pid_file, plan.is_instance), may_reload=plan.can_reload and not notifier.active, users=own
    )
    if plan.is_instance and not notifier.active:
        second_start.refuse_beside_unit(plan.name)
    # Before the lock: during a reload no other process may hold it, not even for a moment.
    if path and second_start.ask_running(start, path):
        return ExitStatus.OK
    if not plan.detach and not notifier.active and background.is_on_terminal_of_another(identity):
        from . import foreground

        foreground.leave_to_keeper()
    directory = invocation.environment.get(inheritance.RUN_DIRECTORY_VARIABLE, "")
    if directory:
        from ..instances import run_directory  # only for an instance, where systemd does not provide the directory

        run_directory.make(directory, identity)
    pid_file = PidFile.at(plan.pid_file) if plan.pid_file else PidFile.nameless()
    if not pid_file.try_lock():
        if second_start.signal_running(start, pid_file):
            return ExitStatus.OK
        raise start.already_running()
    if not pid_file.still_named():
        raise AlreadyRunning(f"{plan.pid_file} was replaced while it was being locked; start again.")
    listener = server.bind(path) if path else None
    claimed = Claim(notifier, invocation, identity, pid_file, listener, directory, None, -1, None, init=init)
    try:
        pid_file.restrict_to_owner()
        if identity is not None and os.geteuid() == 0:
            pid_file.give_to(identity.uid, identity.gid)
        pid_file.write_pid(os.getpid())  # now, because a full disk can still be reported
        if path and notifier.active:
            start_record.write(start_record.path_beside(path), invocation)
    except SdsuperviseError:
        claimed.give_back()
        raise
    return claimed


def _claim_as_successor(plan: Plan, invocation: inheritance.Invocation, channel: Channel, own_stderr: int) -> Claim:
    welcome = receive_welcome(channel, timeout_seconds=_WELCOME_SECONDS)
    notifier = Notifier()
    _set_up_process(plan, generation=welcome.generation)
    identity = privileges.look_up(plan.user, plan.group)
    _check_predecessor(welcome.predecessor_uid, identity)
    rights.refuse_code_of_others(identity, invocation)
    listener = None
    if "control" in welcome.fds:
        listener = socket.socket(fileno=welcome.fds["control"])
        listener.setblocking(False)
    init = None
    if "init" in welcome.fds:
        from ..linux.init import Init

        init = Init(socket.socket(fileno=welcome.fds["init"]))
        init.close_in_children()
    return Claim(notifier, invocation, identity, None, listener, "", channel, own_stderr, welcome, init=init)


def _check_predecessor(uid: int | None, identity: Identity | None) -> None:
    """Refuse a predecessor of another user than ours: we trust its messages and use its sockets.

    Raises HandoverError.
    """
    own = identity.uid if identity is not None and os.geteuid() == 0 else os.geteuid()
    if uid != own:
        raise HandoverError(
            f"The service runs as uid {uid} and would run as uid {own}; a reload does not change the user: restart it."
        )


def _set_up_process(plan: Plan, *, generation: int) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    process_title.introduce(plan.name, generation if plan.supervised else 0)
    process_title.show("daemon" if not plan.supervised else "successor" if generation > 1 else "supervisor")
    if plan.supervised:
        # If SIGCHLD is ignored, the kernel reaps workers before we know how they ended. A handler that Python does not
        # know belongs to an event loop such as gevent's, which runs in workers, not here.
        if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if hasattr(sys.stdout, "reconfigure") and not plan.supervised:
        sys.stdout.reconfigure(line_buffering=True)  # so that print() reaches the journal at once
    logs.set_up(plan.name, generation=generation, silent=plan.silent, waits=not plan.supervised)
