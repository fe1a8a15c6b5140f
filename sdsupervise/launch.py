"""From a parsed command line to a process that may begin: lock, control socket, background, privileges.

A first generation takes all of it, in the original's order; a successor is given most of it by its predecessor.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from . import client, control, logs
from .addresses import Address
from .config import KINDS, ONLY_FOR_COMMANDS, Settings, check_settings
from .errors import (
    AlreadyRunning,
    ConfigError,
    ExitStatus,
    HandoverError,
    LibraryMissing,
    NotPermitted,
    NotRunning,
    SdsuperviseError,
)
from .linux import inheritance, privileges, processes, signals
from .linux.channel import Channel
from .linux.listeners import Wanted
from .linux.pid_file import PidFile
from .listen import Listen
from .listening import Listening
from .peer import Welcome, receive_welcome
from .printable import printable
from .receipt import Receipt, pin_imports
from .systemd.notify import Notifier, status

_log = logging.getLogger("sdsupervise")

_ANSWER_SECONDS = 5.0  # a supervisor's event loop answers at once, or hangs
_WELCOME_SECONDS = 60.0


class Plan(NamedTuple):
    """What a daemon asks for."""

    name: str
    take_receipt: Callable[[], Receipt]  # of the code, once this process is as it will stay
    pid_file: str | None
    user: str | None
    group: str | None
    silent: bool
    detach: bool
    supervised: bool
    can_reload: bool
    listen: Sequence[Listen] = ()


class Started(NamedTuple):
    """What it got: its own process, ready to begin."""

    notifier: Notifier
    invocation: inheritance.Invocation
    receipt: Receipt
    pid_file: PidFile
    control: socket.socket | None
    listening: Listening
    welcome: Welcome | None

    @property
    def generation(self) -> int:
        """Counted from 1."""
        return self.welcome.generation if self.welcome is not None else 1

    @property
    def listeners(self) -> Mapping[str, socket.socket]:
        """What the service listens on, in the order in which it is listed; close-on-exec."""
        return self.listening.sockets


def start(plan: Plan) -> Started | int:
    """Get everything ready. An exit status instead where this process has nothing more to do: it initiated the reload
    of a running daemon, or it is the parent of one that went to the background.

    Raises SdsuperviseError.
    """
    inheritance.fill_standard_descriptors()
    invocation = inheritance.this_invocation()
    handover = inheritance.inherited_handover(os.environ)
    os.environ.pop(inheritance.HANDOVER_VARIABLE, None)
    if handover is None:
        return _start_first(plan, invocation)
    channel = Channel.from_fd(handover[0])
    inheritance.adopt_stderr(handover[1])
    try:
        return _start_successor(plan, invocation, channel)
    except SdsuperviseError as error:
        channel.send("reason", text=str(error))
        raise


def tell_where_it_starts() -> None:
    """In a successor, which is in its directory by now: whoever waits for the reload hears of that before any code is
    loaded, and so also where that fails.

    Raises HandoverError.
    """
    handover = inheritance.inherited_handover(os.environ)
    named = inheritance.named_directory()
    if handover is None or not named:
        return
    real = os.getcwd()
    channel = Channel.from_fd(handover[0])
    channel.send("starts", place=named if named == real else f"{named} -> {real}")
    channel.detach()


def _start_first(plan: Plan, invocation: inheritance.Invocation) -> Started | int:
    notifier = Notifier()
    _set_up_process(plan, generation=1)
    identity = privileges.look_up(plan.user, plan.group)
    wanted = _wanted(plan, identity)
    directory = os.environ.get(inheritance.RUN_DIRECTORY_VARIABLE)
    if directory:
        from . import run_directory  # only an instance has one, and only where systemd does not provide it

        run_directory.make(directory, identity)
    path = client.control_path(plan.pid_file) if plan.supervised else ""
    # Before the lock is touched: in the middle of a reload nobody may hold it for a moment.
    if path and _answers_second_start(plan, path, notifier):
        return ExitStatus.OK
    pid_file = PidFile.at(plan.pid_file) if plan.pid_file else PidFile.nameless()
    if not pid_file.try_lock():
        if _signals_second_start(plan, pid_file, notifier):
            return ExitStatus.OK
        raise _already_running(plan)
    if not pid_file.still_named():
        raise AlreadyRunning(f"{plan.pid_file} was replaced while it was being locked; start again.")
    listener = control.bind(path) if path else None
    if identity is not None and os.geteuid() == 0:
        pid_file.give_to(identity.uid, identity.gid)
    pid_file.write_pid(os.getpid())  # if the disk is full, this is where there is still somebody to tell
    # Before the privileges are dropped, for a port below 1024.
    try:
        listening = Listening.begin(wanted, notifier) if plan.supervised else Listening()
    except SdsuperviseError:
        pid_file.forget_pid()
        if listener is not None:
            os.unlink(path)
        if directory:
            run_directory.take_away(directory, pid_file.name)
        raise
    caller = None
    if plan.detach and not notifier.active:
        caller = _go_to_background()
        if caller is None:
            return ExitStatus.OK
    pid_file.write_pid(os.getpid())
    if caller is not None:
        os.close(caller)
    _drop_privileges(identity)
    return Started(notifier, invocation, plan.take_receipt(), pid_file, listener, listening, None)


def _start_successor(plan: Plan, invocation: inheritance.Invocation, channel: Channel) -> Started:
    welcome = receive_welcome(channel, timeout_seconds=_WELCOME_SECONDS)
    notifier = Notifier()
    _set_up_process(plan, generation=welcome.generation)
    identity = privileges.look_up(plan.user, plan.group)
    listening = Listening.inherit(_wanted(plan, identity), welcome.listeners, welcome.fds)
    channel.send("opened", files=listening.files_made())
    _drop_privileges(identity)
    lock = welcome.fds["lock"]
    pid_file = PidFile.through(lock, welcome.pid_file_name)
    os.close(lock)
    listener = None
    if "control" in welcome.fds:
        listener = socket.socket(fileno=welcome.fds["control"])
        listener.setblocking(False)
    return Started(notifier, invocation, plan.take_receipt(), pid_file, listener, listening, welcome)


def _wanted(plan: Plan, identity: privileges.Identity | None) -> list[Wanted]:
    """The sockets that are listed; a UNIX socket's file is the service's own, unless its entry says another owner.

    Raises ConfigError.
    """
    uid, gid = (identity.uid, identity.gid) if identity is not None and os.geteuid() == 0 else (None, None)
    wanted = [Wanted.of(listen, uid, gid) for listen in plan.listen]
    names: dict[Address, str] = {}
    for listener in wanted:
        other = names.setdefault(listener.address, listener.name)
        if other != listener.name:
            raise ConfigError(f"listen {other!r} and {listener.name!r} have one address, {listener.address}.")
    return wanted


def _set_up_process(plan: Plan, *, generation: int) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if plan.supervised:
        # Ignored, by the service or by whoever started us, it would have workers reaped before we know how they ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a print() is in the journal at once, not after 8 KiB
    logs.set_up(plan.name, generation=generation, silent=plan.silent)
    pin_imports()


def _drop_privileges(identity: privileges.Identity | None) -> None:
    if identity is None or (os.geteuid(), os.getegid()) == (identity.uid, identity.gid):
        return
    if os.geteuid() == 0:
        privileges.become(identity)
    else:
        _log.warning("Only root can run as another user or group; staying uid %d, gid %d", os.geteuid(), os.getegid())


def _go_to_background() -> int | None:
    """Detach from the terminal. The process that was called waits until the daemon closes the descriptor that is
    returned there (its pid is in the file by then), and gets None."""
    processes.flush()
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)
        return None
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)
    return writer


# ---------------------------------------------------------------------------------------------------- second start


def _answers_second_start(plan: Plan, path: str, notifier: Notifier) -> bool:
    """Somebody answers on the control socket and began a reload; False if nobody listens.

    Raises AlreadyRunning if it runs and is not to be reloaded by this.
    """
    try:
        caller = client.Client.connect(path, timeout_seconds=_ANSWER_SECONDS)
    except NotRunning:
        return False
    try:
        facts = caller.ask("Status").parameters
        if _known_as(str(facts.get("name")), str(facts.get("pid_file", ""))) != _known_as(plan.name, plan.pid_file):
            raise AlreadyRunning(
                f"Another service, {facts.get('name')}, listens on {path}; give each a RuntimeDirectory of its own."
            )
        if notifier.active or not plan.can_reload:
            # Under systemd exit status 0 would make Restart=always reload the other one for ever.
            raise _already_running(plan)
        answer = next(caller.call("Reload", more=True))
    except HandoverError as error:
        raise AlreadyRunning(f"{_already_running(plan)} {error}") from error
    finally:
        caller.close()
    if answer.error == "ReloadRefused":
        raise AlreadyRunning(f"Daemon is already running: {answer.parameters.get('reason')}")
    _log.warning("Daemon is already running, initiated hot reload")
    return True


def _known_as(name: str, pid_file: str | None) -> str:
    """What tells apart services that share a control socket's path; the directory may be spelled in many ways."""
    return os.path.basename(pid_file or "") or name


def _signals_second_start(plan: Plan, pid_file: PidFile, notifier: Notifier) -> bool:
    """The lock's holder has no control socket we can find, and was sent SIGUSR2 instead."""
    pid = pid_file.read_pid()
    if notifier.active or not plan.can_reload or pid is None:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # A worker can hold the lock of a dead supervisor, whose number may be anybody's by now.
        if not _looks_like_us(pid):
            return False
        if not signals.send(pidfd, signal.SIGUSR2):
            raise NotPermitted(f"Daemon is already running as pid {pid}, which we may not signal.")
        _log.warning("Daemon is already running, initiated hot reload")
        return True
    finally:
        os.close(pidfd)


def _looks_like_us(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as arguments:
            return os.fsencode(os.path.basename(sys.argv[0])) in arguments.read()
    except OSError:
        return False


def _already_running(plan: Plan) -> AlreadyRunning:
    what = plan.pid_file or "what serves for a pid file"
    return AlreadyRunning(f"Couldn't lock {what}. Is another copy of this daemon already running?")


# --------------------------------------------------------------------------------------------------------- details


def default_pid_file(name: str) -> str:
    """NAME.pid in $RUNTIME_DIRECTORY, else in /run."""
    return os.path.join(client.runtime_directory() or "/run", f"{name}.pid")


def settings_of(service: object) -> Settings:
    """The settings among an object's attributes.

    Raises ConfigError.
    """
    names = [name for name in KINDS if name not in ONLY_FOR_COMMANDS]
    return check_settings(type(service).__name__, {name: getattr(service, name) for name in names})


def is_successor() -> bool:
    """This process was started for a reload."""
    return inheritance.HANDOVER_VARIABLE in inheritance.this_invocation().environment


def say_failure(error: SdsuperviseError) -> int:
    """Tell people and systemd why there is no service; the exit status.

    A successor tells its predecessor instead, by what it writes: systemd would not listen to it.
    """
    sentence = printable(str(error))  # which may quote the service's own exception
    print(sentence, file=sys.stderr)
    if not is_successor():
        try:
            Notifier().send(status(sentence))
        except LibraryMissing:
            pass  # who reads standard error has been told why
    return error.exit_status
