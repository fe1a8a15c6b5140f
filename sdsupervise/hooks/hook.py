"""A command that a supervisor runs beside its workers, always with a time limit: before_commit, notify_command."""

from collections.abc import Callable, Mapping, Sequence

from ..input.printable import printable
from ..linux import limits, prctl, processes
from ..linux.event_loop import EventLoop
from ..linux.output_tail import OutputTail
from ..linux.unpatched import os, signal
from ..systemd.notify import forget_systemd
from . import holder


class Hook:
    """One run of a command. Calls `on_end` with the failure reason ("" on success) and the output; not after `cancel`.

    The command's process group ends with the command, and with the supervisor.
    """

    def __init__(
        self,
        loop: EventLoop,
        name: str,
        command: Sequence[str],
        timeout_seconds: float,
        *,
        environment: Mapping[str, str],
        on_end: Callable[[str, str], None],
        holds: Sequence[int] = (),
    ) -> None:
        """Start the command in the working directory and environment of this process, with these variables added.

        `name` is the name of its setting. The workers in `holds`, given by pid, are stopped while it runs; see
        hooks/holder.py.

        Raises OSError if the kernel refuses to fork.
        """
        self._loop, self._name, self._command = loop, name, command
        self._timeout_seconds, self._on_end, self._holds = timeout_seconds, on_end, holds
        self._killed_for = ""  # why the supervisor killed it
        reader, writer = os.pipe()
        try:
            supervisor_pid = os.getpid()
            self._child = processes.fork(lambda: _execute(command, environment, writer, supervisor_pid, holds))
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._output = OutputTail(loop, reader)
        self._timer = loop.expect_within(timeout_seconds, self._kill_overdue)
        self._runs = True
        loop.watch(self._child.pidfd, self._reap)

    def cancel(self) -> None:
        """SIGKILL the command and all it started. `on_end` is not called any more."""
        self._on_end = lambda _why, _output: None
        self._kill()

    def kill(self, why: str) -> None:
        """SIGKILL the command and all it started. `why` becomes its end in the failure reason."""
        self._killed_for = why
        self._kill()

    def _kill_overdue(self) -> None:
        self.kill(f"took longer than {self._timeout_seconds:g} s")

    def _kill(self) -> None:
        if self._runs:
            processes.signal_group(self._child, signal.SIGKILL)

    def _reap(self) -> None:
        self._kill()  # the rest of its group; the kernel does not reuse the number before the reap
        status = processes.reap(self._child)
        if status is None:
            return
        output = printable(self._output.text())
        self._output.close()
        if self._holds and os.WIFSIGNALED(status):
            holder.release(self._holds)  # the holder was killed, perhaps before it continued the workers
        self._runs = False
        self._timer.cancel()
        self._loop.unwatch(self._child.pidfd)
        os.close(self._child.pidfd)
        self._on_end(self._why(status, output), output)

    def _why(self, status: int, output: str) -> str:
        if status == 0:
            return ""
        last_line = f": {output.splitlines()[-1]}" if output else ""
        ended = self._killed_for or processes.exit_in_words(status)
        return f"{self._name} ({' '.join(self._command)}) {ended}{last_line}"


def _execute(
    command: Sequence[str], environment: Mapping[str, str], writer: int, supervisor_pid: int, holds: Sequence[int]
) -> int:
    os.setsid()
    # The supervisor may be killed: then this process dies too, a holder by SIGTERM, so that it continues its workers.
    if not prctl.die_with_parent(supervisor_pid, signal.SIGTERM if holds else signal.SIGKILL):
        return 127
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # not ours, which are close-on-exec: inherited ones
    forget_systemd()
    limits.restore_in_child()
    os.environ.update(environment)
    return holder.run(holds, lambda: _become(command)) if holds else _become(command)


def _become(command: Sequence[str]) -> int:
    for number in (signal.SIGPIPE, *processes.IGNORED_IN_CHILDREN):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"cannot be executed: {error.strerror}\n".encode())
    return 127
