"""The steps by which several programs' command lines are adapted to a supervisor."""

import os
import re
from collections.abc import Sequence

from ..errors import CannotWrap
from ..input.checked import decimal
from ..input.printable import one_line
from ..settings.settings import MOST_WORKERS
from .line import CommandLine
from .versions import installed_version

_READY_AFTER = "3"  # seconds
_MOST_OWN_SECONDS = 366 * 86400  # of a program's own stop time-out


def without_pid_file(line: CommandLine, *names: str) -> None:
    """Remove the options that name a pid file."""
    for path in line.take(*names):
        line.note(f"{names[-1]} {path} is removed: two generations cannot share it, and systemd knows the main process")


def without_daemon(line: CommandLine, *names: str) -> None:
    """Remove the options that put the program into the background."""
    if line.take_flag(*names):
        line.note(f"{names[-1]} is removed: the supervisor must see the program start and end")


def without_reload(line: CommandLine, name: str) -> None:
    """Remove the option that reloads code as it is edited."""
    if line.take_flag(name):
        line.note(f"{name} is removed: it is for development; here, operators request reloads")


def tcp(line: CommandLine, bind: str) -> str:
    """The address of HOST:PORT or HOST, as gunicorn and hypercorn read it; variables in it stay where they can."""

    def form(text: str) -> str:
        host, colon, port = text.removeprefix("tcp://").rpartition(":")
        return line.address(host, port) if colon and not port.endswith("]") else line.address(text, "8000")

    return line.written(bind, form)


def host_and_port(line: CommandLine, host: str, port: str) -> str:
    """The address of two options; variables in them stay where they can."""
    words = [f"${{{word[1:]}}}" if re.fullmatch(r"\$\w+", word) else word for word in (host, port)]
    return line.written(":".join(words), lambda text: line.address(*text.rpartition(":")[::2]))


def refuse_descriptor(line: CommandLine, option: str) -> CannotWrap:
    """The error for an option that names a descriptor, although nobody passes one."""
    return CannotWrap(f"{line.program} has {option}, and there is no .socket unit that gives it a socket.")


def one_process(line: CommandLine, names: Sequence[str], variables: Sequence[str], alone: Sequence[str]) -> None:
    """Let sdsupervise start as many processes as the program did. `alone` are the words for one process.

    Raises CannotWrap for a number that is not visible here.
    """
    found = [(name, line.environment[name]) for name in variables if line.environment.get(name)]
    for name, value in found:
        if decimal(value, MOST_WORKERS) is None:
            raise CannotWrap(f"{name} is {one_line(value, 100)!r}, which is not a number of processes; fix it.")
    said = line.take(*names)
    count = said[-1] if said else found[0][1] if found else "1"
    number = line.number(count, MOST_WORKERS)
    if number is None:
        raise CannotWrap(
            f"{line.program} has {names[0]} {one_line(count, 100)}, which is not a number that is visible here; write "
            f"the number there."
        )
    if number > 1:
        line.options["workers"] = f"${{{count[1:]}}}" if count[:1] == "$" and count[1:2] != "{" else count
        line.note(
            f"{names[0]} {count} became an option of sdsupervise, which supervises each process and replaces it "
            f"when it dies"
        )
    line.arguments[:0] = [*alone] if alone else [names[0], "1"] if found else []


def drops_what_it_has_not_read(line: CommandLine) -> None:
    """Say what happens to connections that the program has not read from when it stops."""
    if line.listen and line.has_lanes():
        line.note(
            f"lanes: when {line.program} must stop, it drops connections that it has not read from yet; so a reload "
            f"first sends all new connections to the new code"
        )
    else:
        line.note(
            f"when {line.program} must stop, it drops connections that it has not read from yet; lanes avoid that, "
            f"but only a TCP socket of the supervisor can have lanes"
        )


def is_ready_after(line: CommandLine) -> None:
    """Set a delay as readiness for a program that does not report it."""
    if line.notifies:
        return
    line.options["ready-after"] = _READY_AFTER
    line.note(
        f"--ready-after {_READY_AFTER}: {line.called} does not report when it is ready; if your code does, with "
        "`sdsupervise ready`, take the option out"
    )


def drains_within(line: CommandLine, own_limit: str) -> None:
    """Set the stop time-out: ten seconds beyond the program's own limit, or else what its unit allowed."""
    own = line.number(own_limit, _MOST_OWN_SECONDS)
    if own is not None:
        seconds = own + 10 if own >= 30 else 30
    else:
        seconds = int(max(30.0, min(line.stop_seconds - 10, 86400.0)))
    if seconds != 30:
        line.options["stop-timeout"] = str(seconds)


def version_of(line: CommandLine, distribution: str) -> tuple[int, ...] | None:
    """The version of the program that its files show; None if unknown."""
    executable = line.before[-1]
    if line.before[-2:-1] == ["-m"]:
        pythons = (word for word in reversed(line.before) if os.path.basename(word).startswith(("python", "pypy")))
        executable = next(pythons, executable)
    path = f"{line.directory or '/'}/.venv/bin" if line.has_own_path else line.environment.get("PATH", "")
    return installed_version(executable, distribution, path=path, directory=line.directory)
