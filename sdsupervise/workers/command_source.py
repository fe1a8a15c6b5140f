"""The source of a command's workers: each one is executed anew, from what is on disk at that moment."""

import errno
import logging
import re
import signal
from collections.abc import Callable, Sequence

from ..child import command_exec, shim
from ..child.command_exec import Order
from ..code.code_version import files_of_command, read_version_of_command
from ..control.client import runtime_directory
from ..errors import ConfigError, UsageError
from ..linux import files, process_groups, process_title, processes, signals
from ..linux.channel import receive
from ..linux.inheritance import directory_of_code
from ..linux.patience import readable_within
from ..linux.program_search import search
from ..linux.unpatched import os, socket
from ..settings.addresses import why_too_long
from ..systemd import logs
from ..systemd.notify_client import DIRECTORY, LONGEST_NAME
from .command_worker import CommandIdentity, NotifiedWorker
from .notify_socket import MODE_OF_DIRECTORY, NotifySocket
from .shimmed_worker import ShimmedWorker
from .source import WorkerContext
from .worker import WorkerOwner

_log = logging.getLogger("sdsupervise")

_SHIM_SECONDS = 10.0  # for the shim's two forks when it starts
_DIRECTORY = re.compile(rf"{DIRECTORY}\.([0-9]{{1,9}})\.[0-9a-f]{{8}}")  # the number is the supervisor's pid
_PLACE_HOLDER = re.compile(r"\{\{([\w.-]+)\}\}|(?<!\$)\{([\w.-]+)\}")


class CommandWorkers:
    """A Source that executes a command: directly in `overlap`, under a shim that holds the lock in `exclusive`."""

    forks = False

    def __init__(self, context: WorkerContext, executable: str, words: Sequence[str]) -> None:
        settings, listeners = context.settings, context.listeners
        self._context = context
        environment = command_exec.environment_of_commands(
            os.environ, generation=context.generation, worker_timeout=settings.worker_timeout
        )
        self._order = Order(
            executable,
            with_descriptors(words, list(listeners)),
            environment,
            listeners,
            ignores_sigpipe={"INVOCATION_ID", "NOTIFY_SOCKET"} <= os.environ.keys(),
        )
        self._executable, self._words = executable, words
        self._codes: dict[int, str] = {}  # the version that each worker was started with, by index
        self._directory = ""

    def start(
        self, owner: WorkerOwner, *, index: int, spare: bool, wait_for_go: bool, may_serve: bool
    ) -> NotifiedWorker:
        """See Source."""
        self._directory = self._directory or _make_directory()
        self._note_code(index)
        notify, identity = NotifySocket(self._directory), CommandIdentity(self._executable, process_groups.new_mark())
        try:
            if self._context.settings.overlaps:
                return self._start_directly(owner, notify, identity, index=index, wait_for_go=wait_for_go)
            return self._start_with_shim(
                owner, notify, identity, index=index, wait_for_go=wait_for_go, may_serve=may_serve
            )
        except OSError:
            notify.close()
            raise

    def _note_code(self, index: int) -> None:
        """The program may have changed on disk since this generation began: say so, and show what runs."""
        ours = self._context.code_version
        try:
            files = files_of_command(self._executable, self._words)
            now = read_version_of_command(self._executable, ours.words[1:], files)
        except FileNotFoundError:
            return  # the working directory was removed, as a deployment may do with an old release
        self._codes[index] = str(now)
        if str(now) != str(ours):
            _log.warning(
                "Worker %d starts with changed code: %s is on disk, and generation %d has run %s",
                *(index, now, self._context.generation, ours),
            )
            if set(self._codes.values()) == {str(now)}:
                ours.replace(now)

    def _start_directly(
        self, owner: WorkerOwner, notify: NotifySocket, identity: CommandIdentity, *, index: int, wait_for_go: bool
    ) -> NotifiedWorker:
        """Start a command as a direct child of the supervisor."""
        loop, settings, _, supervisor, *_ = self._context
        become = self._becoming(notify, identity.mark, index, parent_pid=os.getpid(), at_its_death=settings.stop_signal)
        gate = os.pipe() if wait_for_go else None
        names = process_title.names_of("worker", index)  # until the command is executed

        def be_command() -> int:
            # Give up the lock first: this process may have to wait for an idle CPU before it executes the command.
            supervisor.close_in_child()
            if gate is not None:
                process_title.show_forked(names, index)
                os.close(gate[1])
                if not signals.wait_at(gate[0]):
                    return 1  # the supervisor does not want this worker any more
            return become()

        try:
            child = processes.fork(be_command)
        except OSError:
            if gate is not None:
                os.close(gate[1])
            raise
        finally:
            if gate is not None:
                os.close(gate[0])
        opener = gate[1] if gate else None
        return NotifiedWorker(loop, settings, child, notify, opener, owner, index=index, identity=identity)

    def _start_with_shim(
        self,
        owner: WorkerOwner,
        notify: NotifySocket,
        identity: CommandIdentity,
        *,
        index: int,
        wait_for_go: bool,
        may_serve: bool,
    ) -> ShimmedWorker:
        """Start a command under a shim, which holds the lock for it; see shim.py."""
        loop, settings, generation, supervisor, *_ = self._context
        waits = not may_serve and not settings.waits_for_release
        (ours, theirs), gate = socket.socketpair(), os.pipe()
        names = process_title.names_of("shim", index)

        def be_shim() -> int:
            ours.close()
            supervisor.close_in_child()
            logs.describe("shim", generation)
            process_title.show_forked(names, index)
            become = self._becoming(notify, identity.mark, index, parent_pid=os.getpid(), at_its_death="SIGKILL")
            return shim.run(settings, theirs, gate, become)

        try:
            child = processes.fork(be_shim)
        except OSError:
            ours.close()
            os.close(gate[1])
            raise
        finally:
            theirs.close()
            os.close(gate[0])
        command = _hear_of_command(ours)
        if command is None:
            ours.close()
            os.close(gate[1])
            signals.send(child.pidfd, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        worker = ShimmedWorker(
            *(loop, settings, child, command, ours, notify, gate[1], owner),
            index=index,
            identity=identity,
            waits=waits,
        )
        if not wait_for_go:
            worker.let_go(index)
        return worker

    def _becoming(
        self, notify: NotifySocket, mark: int, index: int, *, parent_pid: int, at_its_death: str
    ) -> Callable[[], int]:
        return lambda: command_exec.become(
            self._order,
            index=index,
            notify_path=notify.path,
            mark=mark,
            parent_pid=parent_pid,
            at_its_death=signal.Signals[at_its_death],
        )

    def close(self) -> None:
        """See Source. Removes the directory of the notification sockets."""
        if self._directory:
            try:
                os.rmdir(self._directory)
            except OSError:
                pass  # the unit's runtime directory may already be gone
            self._directory = ""


def _hear_of_command(link: socket.socket) -> processes.Child | None:
    """The command's process, from the first message of its shim; None if the shim could not fork or hangs."""
    if not readable_within(link, _SHIM_SECONDS):
        return None
    said = receive(link, 64, 1)
    return processes.Child(int(said.data), said.fds[0]) if said.data and said.fds else None


def find(words: Sequence[str]) -> str:
    """The path of the program that a command line names, found in the way of a shell.

    Raises ConfigError if there is no such program, or it is not executable.
    """

    name = words[0]
    path, may = search(name, os.get_exec_path())
    if may:
        return path
    if path:
        raise ConfigError(f"Cannot run {name}: {path} is not executable for uid {os.geteuid()}; try chmod +x.")
    where = f"in {os.getcwd()}" if "/" in name else f"in PATH ({os.environ.get('PATH', os.defpath)})"
    raise ConfigError(f"Cannot run {name}: there is no such program {where}.")


def pinned(executable: str, words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The program and its words, with all symlinks of the program's directory resolved.

    A worker that is restarted then runs the code of its generation, even if a deployment has swapped a symlink since.
    So does a word that lies below the name by which the program's directory, or the working directory, was entered.
    The last part of the path stays: the python of a virtual environment is a symlink, and finds its environment by
    its own location.
    """
    directory = os.path.dirname(executable)
    entered = [_swapped(directory_of_code(), os.getcwd()), _swapped(directory, os.path.realpath(directory or "."))]
    executable = os.path.join(os.path.realpath(directory or "."), os.path.basename(executable))
    rest = [_resolved(word, entered) for word in words[1:]]
    return executable, (executable if "/" in words[0] else words[0], *rest)


def _swapped(name: str, real: str) -> tuple[str, str]:
    """The part of a directory's name that leads elsewhere, and where: of /srv/current/bin and /srv/5/bin, /srv/current
    and /srv/5."""
    while os.path.basename(name) == os.path.basename(real) and os.path.dirname(name) not in ("/", ""):
        name, real = os.path.dirname(name), os.path.dirname(real)
    return name, real


def _resolved(word: str, entered: Sequence[tuple[str, str]]) -> str:
    """The word, or the path after its first "=", with such a name resolved. Links such as /bin stay."""
    option, is_option, path = word.partition("=")
    if not (is_option and option.startswith("-")):
        option, is_option, path = "", "", word
    for name, real in entered:
        if name != real and os.path.dirname(name) != "/" and f"{path}/".startswith(f"{name}/") and name:
            return f"{option}{is_option}{real}{path[len(name) :]}"
    return word


def with_descriptors(words: Sequence[str], listeners: Sequence[str]) -> tuple[str, ...]:
    """The words with each {NAME} replaced by the descriptor number of that listener in the command.

    {{NAME}} stands for {NAME} itself. ${NAME} belongs to a shell, and other braces stay as they are.

    Raises UsageError for a name that no listener has, and for gunicorn's --bind fd://{NAME}.
    """
    # Observed with gunicorn 20.0 to 27.0. At a stop it leaves a UNIX socket's file alone if the socket came by
    # LISTEN_FDS, and removes the file if it came by --bind alone, although that socket is now the successor's.
    given_twice = next((word for word in words if "fd://{" in word), "")
    if given_twice and any(os.path.basename(word) == "gunicorn" for word in words):
        raise UsageError(
            "gunicorn finds its sockets as systemd passes them, and fails if --bind names one of them again: leave "
            f"out {given_twice} and the --bind before it."
        )

    def replaced(found: re.Match[str]) -> str:
        literal, name = found.groups()
        if literal is not None:
            return f"{{{literal}}}"
        if name not in listeners:
            known = ", ".join(listeners) or "none"
            raise UsageError(
                f"{found[0]} in the command names no listener; there are: {known}. "
                f"Write {{{found[0]}}} for the braces themselves."
            )
        return str(command_exec.FIRST_LISTENER + listeners.index(name))

    return tuple(_PLACE_HOLDER.sub(replaced, word) for word in words)


def _make_directory() -> str:
    """Make a directory for sockets: in the unit's runtime directory if that is ours, else in the temporary directory.

    No other user may be able to replace it, nor to list it; see notify_socket.py. The workers of root may become other
    users, so root prefers a place that every user can reach.

    Raises OSError.
    """
    places = [place for place in (runtime_directory(), os.environ.get("TMPDIR", ""), "/tmp") if place]
    if os.geteuid() == 0:
        places.sort(key=lambda place: not _all_can_reach(place))
    for place in places:
        name = f"{DIRECTORY}.{os.getpid()}.{os.urandom(4).hex()}"
        if why_too_long(f"{place}/{name}/{'x' * LONGEST_NAME}"):
            continue
        try:
            directory = files.open_directory(place, only_ours=True)
        except OSError:
            continue
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
            os.chmod(name, MODE_OF_DIRECTORY, dir_fd=directory)  # whatever the umask is
            if place == runtime_directory():
                _remove_left_behind(directory)
        except OSError:
            continue
        finally:
            os.close(directory)
        return f"{place}/{name}"
    raise OSError(
        errno.EACCES, "there is no directory for its NOTIFY_SOCKET; set TMPDIR to a writable one with a short path"
    )


def _all_can_reach(place: str) -> bool:
    """Return whether every user may enter a directory and those above it."""
    place = os.path.realpath(place)
    try:
        while os.stat(place).st_mode & 0o001:
            if place == "/":
                return True
            place = os.path.dirname(place)
    except OSError:
        pass
    return False


def _remove_left_behind(place: int) -> None:
    """Remove the directories that killed supervisors left here. Other users may have made directories of such names."""
    for name in os.listdir(f"/proc/self/fd/{place}"):
        supervisor = _DIRECTORY.fullmatch(name)
        if supervisor is None or processes.exists(int(supervisor[1])):
            continue
        try:
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            try:
                if os.fstat(directory).st_uid == os.geteuid():
                    for socket_name in os.listdir(directory):
                        os.unlink(socket_name, dir_fd=directory)
                    os.rmdir(name, dir_fd=place)
            finally:
                os.close(directory)
        except OSError:
            pass
