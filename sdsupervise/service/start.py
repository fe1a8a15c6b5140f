"""From a parsed command line to a process that may begin: lock, control socket, background, privileges.

A first generation takes all of it, in the original's order; a successor is given most of it by its predecessor.

It is done in two steps. The claim is what may need root's rights: lock, control socket, run directory, and the sockets
that are listed by then. Where a file or an option names the user, the claim is made first, the rights are dropped, and
only then the service's code is loaded, as that user. Where only the class says who it is, its code is loaded as root.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..code.code_version import CodeVersion, pin_imports
from ..control import client, server
from ..errors import AlreadyRunning, ConfigError, ExitStatus, HandoverError, LibraryMissing, SdsuperviseError
from ..handover import start_record
from ..handover.failure_reason import tell_reason
from ..handover.started import Started
from ..handover.welcome import Welcome, receive_welcome
from ..input.printable import printable
from ..linux import inheritance, privileges, processes
from ..linux.channel import Channel
from ..linux.pid_file import PidFile
from ..linux.privileges import Identity
from ..linux.unpatched import os, signal, socket
from ..linux.writers import who_else_may_write
from ..settings.addresses import Address
from ..settings.listen import Listen
from ..settings.settings import OF_CLASSES, Settings, check_settings
from ..sockets import check_reach
from ..sockets.early import Ahead, check_before_start
from ..sockets.listeners import Listening
from ..sockets.opening import Wanted
from ..systemd import logs
from ..systemd.notify import Notifier, status
from . import second_start

if TYPE_CHECKING:
    from ..linux.init import Init

_log = logging.getLogger("sdsupervise")

_WELCOME_SECONDS = 60.0
_KNOWN_AHEAD = ("notify_command", "notify_timeout", "reload_timeout")  # of use before the service's code is loaded

_Made = TypeVar("_Made")


class Plan(NamedTuple):
    """What a daemon asks for."""

    name: str
    read_code_version: Callable[[], CodeVersion]  # of the code, once this process is as it will stay
    pid_file: str | None
    user: str | None
    group: str | None
    silent: bool
    detach: bool
    supervised: bool
    can_reload: bool
    listen: Sequence[Listen] = ()
    overlaps: bool = False
    checked: bool = False  # by before_commit, while the generation before serves
    is_instance: bool = False  # a file describes it, and a unit may run it
    code: str = ""  # the file of a class that is loaded by the time of start()


class Claim(NamedTuple):
    """What is ours before the service's code is loaded."""

    notifier: Notifier
    invocation: inheritance.Invocation
    identity: Identity | None
    pid_file: PidFile | None  # None: a successor opens it when it has dropped its rights
    control: socket.socket | None
    run_directory: str  # which we have made; "" if we did not
    # Of a successor: its way to the predecessor, which reads what it writes to standard error until its code is loaded.
    channel: Channel | None
    own_stderr: int
    welcome: Welcome | None
    ahead: Ahead | None = None  # opened where the rights to do so are given up before the code is loaded
    init: "Init | None" = None  # pid 1, where that is ours

    @property
    def generation(self) -> int:
        """Counted from 1."""
        return self.welcome.generation if self.welcome is not None else 1

    def give_back(self) -> None:
        """There will be no service: leave what a next start needs, and nothing else. What only root could remove
        stays, and does not hinder that start."""
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


# ------------------------------------------------------------------------------------------------------- the claim


def claim(plan: Plan, *, drop: bool) -> Claim | int:
    """Take what may need root's rights; with `drop`, give those up then. An exit status instead where this process has
    nothing more to do.

    Raises SdsuperviseError.
    """
    inheritance.fill_standard_descriptors()
    invocation = inheritance.this_invocation()
    handover = inheritance.inherited_handover(invocation.environment)
    if handover is None:
        init = _leave_to_init() if plan.supervised and os.getpid() == 1 else None
        claimed = _claim_first(plan, invocation, init)
        if init is not None:
            init.close_in_children()
        return _drop_early(plan, claimed) if drop and not isinstance(claimed, int) else claimed
    channel = Channel.from_fd(handover[0])

    def as_successor() -> Claim:
        claimed = _claim_as_successor(plan, invocation, channel, handover[1])
        return _drop_early(plan, claimed) if drop else claimed

    return _tell_why(channel, as_successor)


def _drop_early(plan: Plan, claimed: Claim) -> Claim:
    """Open what is listed by now, and give up the rights to."""
    wanted, welcome = _wanted(plan, claimed.identity), claimed.welcome
    try:
        if welcome is None:
            ahead = Ahead.of_first(wanted, claimed.notifier)
        else:
            ahead = Ahead.of_successor(wanted, welcome.listeners, welcome.fds)
    except SdsuperviseError:
        claimed.give_back()
        raise
    _drop_privileges(claimed.identity, under_systemd=claimed.notifier.active)
    return claimed._replace(ahead=ahead)


def _leave_to_init() -> "Init":
    from ..linux.init import leave_to_init

    return leave_to_init()


def _claim_first(plan: Plan, invocation: inheritance.Invocation, init: "Init | None") -> Claim | int:
    notifier = Notifier()
    _set_up_process(plan, generation=1)
    identity = privileges.look_up(plan.user, plan.group)
    _refuse_code_of_others(identity, invocation)
    check_before_start(_wanted(plan, identity))  # what is wrong with them is said before anything is touched
    path = client.control_path(plan.pid_file) if plan.supervised else ""
    own = {0, os.geteuid()} | ({identity.uid} if identity is not None else set())
    start = second_start.Start(
        *(plan.name, plan.pid_file, plan.is_instance), may_reload=plan.can_reload and not notifier.active, users=own
    )
    if plan.is_instance and not notifier.active:
        second_start.refuse_beside_unit(plan.name)
    # Before the lock is touched: in the middle of a reload nobody may hold it for a moment.
    if path and second_start.ask_running(start, path):
        return ExitStatus.OK
    if _leaves_terminal(plan, notifier, identity):
        from . import foreground

        foreground.leave_to_keeper()
    directory = invocation.environment.get(inheritance.RUN_DIRECTORY_VARIABLE, "")
    if directory:
        from ..instances import run_directory  # only an instance has one, and only where systemd does not provide it

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
        pid_file.keep_to_owner()
        if identity is not None and os.geteuid() == 0:
            pid_file.give_to(identity.uid, identity.gid)
        pid_file.write_pid(os.getpid())  # if the disk is full, this is where there is still somebody to tell
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
    _refuse_code_of_others(identity, invocation)
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


def _refuse_code_of_others(identity: Identity | None, invocation: inheritance.Invocation) -> None:
    if _drops(identity):
        from ..linux.root_environment import refuse_code_of_others

        refuse_code_of_others(invocation.environment, invocation.directory)


def _check_predecessor(uid: int | None, identity: Identity | None) -> None:
    """We believe what it says, and use the sockets that it gives us: so it has to be of the user that we become.

    Raises HandoverError.
    """
    own = identity.uid if identity is not None and os.geteuid() == 0 else os.geteuid()
    if uid != own:
        raise HandoverError(
            f"The service runs as uid {uid} and would run as uid {own}; a reload does not change the user: restart it."
        )


def _set_up_process(plan: Plan, *, generation: int) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if plan.supervised:
        # Ignored, by the service or by whoever started us, it would have workers reaped before we know how they ended.
        # A handler that Python does not know of is an event loop's, which does not run here but in workers: gevent's.
        if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if hasattr(sys.stdout, "reconfigure") and not plan.supervised:
        sys.stdout.reconfigure(line_buffering=True)  # a print() is in the journal at once, not after 8 KiB
    logs.set_up(plan.name, generation=generation, silent=plan.silent, waits=not plan.supervised)


def _leaves_terminal(plan: Plan, notifier: Notifier, identity: Identity | None) -> bool:
    """In the foreground of a terminal, as another user than the one whose terminal it is."""
    if plan.detach or notifier.active or identity is None or identity.uid == os.geteuid() or os.geteuid() != 0:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------- the start


def start(plan: Plan, claimed: Claim | None = None) -> Started | int:
    """Get everything ready, by a claim that was made before or by one that is made now. An exit status instead where
    this process has nothing more to do: it initiated the reload of a running daemon, or it is the parent of one that
    went to the background.

    Raises SdsuperviseError.
    """
    if claimed is None:
        made = claim(plan, drop=False)
        if isinstance(made, int):
            return made
        claimed = made
    pin_imports()
    if claimed.channel is not None:
        inheritance.adopt_stderr(claimed.own_stderr)
        # Which may be the journal.
        logs.set_up(plan.name, generation=claimed.generation, silent=plan.silent, waits=not plan.supervised)
        return _tell_why(claimed.channel, lambda: _start_successor(plan, claimed))
    try:
        return _start_first(plan, claimed)
    except SdsuperviseError:
        claimed.give_back()
        raise


def tell_of_what_is_not_caught() -> None:
    """In a successor, before its service's code is loaded: an exception that this does not catch is the reason, though
    what runs at the interpreter's exit writes more."""
    before, pid = sys.excepthook, os.getpid()

    def tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if os.getpid() == pid:  # and not a child's
            tell_reason(error)
        before(kind, error, where)

    sys.excepthook = tell


def tell_where_it_starts(settings: Mapping[str, object]) -> None:
    """In a successor, which is in its directory by now: whoever waits for the reload hears of that before any code is
    loaded, and so also where that fails. What the command line or the file says counts from now on: whom to tell of a
    failure, and a longer reload_timeout.

    Raises HandoverError.
    """
    handover = inheritance.inherited_handover(inheritance.this_invocation().environment)
    if handover is None:
        return
    named = inheritance.named_directory()
    real = os.getcwd() if named else ""
    channel = Channel.from_fd(handover[0])
    known = {name: settings[name] for name in _KNOWN_AHEAD if name in settings}
    channel.send("starts", (), place=named if named == real else f"{named} -> {real}", **known)
    channel.detach()


def _start_first(plan: Plan, claimed: Claim) -> Started | int:
    notifier, pid_file = claimed.notifier, claimed.pid_file
    assert pid_file is not None
    _warn_of_code(plan, claimed.identity)
    if plan.pid_file != (pid_file.name or None):
        raise ConfigError(
            f"{plan.name} names the pid file {plan.pid_file or '(none)'} in its code, which was loaded as uid "
            f"{os.geteuid()}: too late. Put pid_file into the instance's file, or give --pid-file."
        )
    # Before the privileges are dropped, for a port below 1024, unless they had to be dropped before.
    listening = Listening(notifier)
    if plan.supervised:
        listening = Listening.begin(
            *(_wanted(plan, claimed.identity), notifier, claimed.ahead),
            checked=plan.checked,
            drops=_drops(claimed.identity),
        )
    detaches = plan.detach and not notifier.active and claimed.init is None
    caller = _go_to_background() if detaches else None
    pid_file.write_pid(os.getpid())
    if caller is not None:
        os.close(caller)
    _drop_privileges(claimed.identity, under_systemd=notifier.active)
    return Started(
        *(notifier, claimed.invocation, plan.read_code_version(), pid_file, claimed.control, listening),
        welcome=None,
        init=claimed.init,
    )


def _start_successor(plan: Plan, claimed: Claim) -> Started:
    channel, welcome, notifier = claimed.channel, claimed.welcome, claimed.notifier
    assert channel is not None and welcome is not None
    wanted = _wanted(plan, claimed.identity)
    listening = Listening.inherit(
        *(wanted, welcome.listeners, welcome.fds, notifier, claimed.ahead),
        beside=plan.overlaps and welcome.overlaps,
        checked=plan.checked,
        drops=_drops(claimed.identity),
    )
    lanes, fds = listening.for_predecessor()
    channel.send("opened", fds, files=listening.files_made(), lanes=lanes)
    _drop_privileges(claimed.identity, under_systemd=notifier.active)
    lock = welcome.fds["lock"]
    pid_file = PidFile.through(lock, welcome.pid_file_name)
    os.close(lock)
    return Started(
        *(notifier, claimed.invocation, plan.read_code_version(), pid_file, claimed.control, listening),
        welcome=welcome,
        init=claimed.init,
    )


def _tell_why(channel: Channel, attempt: Callable[[], _Made]) -> _Made:
    """In a successor: the predecessor hears why it fails."""
    try:
        return attempt()
    except Exception as error:
        tell_reason(error, channel)
        raise


def _wanted(plan: Plan, identity: Identity | None) -> list[Wanted]:
    """The sockets that are listed; a UNIX socket's file is the service's own, unless its entry says another owner.

    Raises ConfigError.
    """
    uid, gid = (identity.uid, identity.gid) if identity is not None and os.geteuid() == 0 else (None, None)
    wanted = [Wanted.of(listen, uid, gid) for listen in plan.listen]
    names: dict[Address, str] = {}
    control_socket = Address(socket.AF_UNIX, client.control_path(plan.pid_file))
    for listener in wanted:
        if listener.address.is_one_with(control_socket):
            raise ConfigError(
                f"listen {listener.name!r} is {listener.address}, where sdsupervise has its own control socket; choose "
                "another path."
            )
        other = names.setdefault(listener.address, listener.name)
        if other != listener.name:
            raise ConfigError(f"listen {other!r} and {listener.name!r} have one address, {listener.address}.")
    why = check_reach.why_not(wanted, identity if os.geteuid() == 0 else None) if plan.checked else ""
    if why:
        raise ConfigError(why)
    return wanted


def _warn_of_code(plan: Plan, identity: Identity | None) -> None:
    """Only the class, or its own command line, has named its user: so root has loaded its code."""
    if not plan.code or identity is None or identity.uid == 0 or os.geteuid() != 0:
        return
    writer = who_else_may_write(plan.code)
    _log.warning(
        "Root has loaded the code of %s, before it became %s: whoever may write that code is root at the next start%s. "
        "Name the user in the instance's file, or by 'sdsupervise run --user %s'",
        *(plan.name, plan.user, f" ({writer})" if writer else "", plan.user),
    )


def _drops(identity: Identity | None) -> bool:
    """There are rights to give up still."""
    return identity is not None and os.geteuid() == 0 != identity.uid


def _drop_privileges(identity: Identity | None, *, under_systemd: bool) -> None:
    if identity is None:
        return
    if (os.geteuid(), os.getegid()) != (identity.uid, identity.gid):
        if os.geteuid() != 0:
            _log.warning(
                "Only root can run as another user or group; staying uid %d, gid %d", os.geteuid(), os.getegid()
            )
            return
        privileges.become(identity)
    privileges.set_login_environment(identity, of_systemd=under_systemd)


def _go_to_background() -> int:
    """Detach from the terminal. The process that was called waits until the daemon closes the descriptor that is
    returned there (its pid is in the file by then), and ends."""
    processes.flush()
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)
        os._exit(ExitStatus.OK)  # exit functions that the service's code has registered are the daemon's
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)
    logs.follow()
    return writer


# --------------------------------------------------------------------------------------------------------- details


def default_pid_file(name: str) -> str:
    """NAME.pid in $RUNTIME_DIRECTORY, else in /run."""
    return os.path.join(client.runtime_directory() or "/run", f"{name}.pid")


def settings_of(service: object) -> Settings:
    """The settings among an object's attributes.

    Raises ConfigError.
    """
    return check_settings(type(service).__name__, {name: getattr(service, name) for name in OF_CLASSES})


def is_successor() -> bool:
    """This process was started for a reload."""
    return inheritance.HANDOVER_VARIABLE in inheritance.this_invocation().environment


def say_failure(error: SdsuperviseError, channel: Channel | None = None) -> int:
    """Tell people and systemd why there is no service; the exit status.

    A successor tells its predecessor instead: systemd would not listen to it.
    """
    sentence = printable(str(error))  # which may quote the service's own exception
    print(sentence, file=sys.stderr)
    logs.finish(within_seconds=1.0)
    if is_successor():
        tell_reason(error, channel)
    else:
        try:
            Notifier().send(status(sentence))
        except LibraryMissing:
            pass  # who reads standard error has been told why
    return error.exit_status
