"""What well-known programs need for a reload without a lost request. units/example has a tested unit for each."""

import ast
import os
import shlex
from collections.abc import Callable, Mapping, Sequence

from ..errors import CannotWrap, NotReadable
from ..input.checked import MOST_COUNT, decimal
from ..input.printable import one_line
from ..linux.files import read_regular
from ..settings.settings import MOST_WORKERS
from .line import CommandLine
from .words import literal

_READY_AFTER = "3"  # seconds
_MOST_OWN_SECONDS = 366 * 86400  # of a program's own stop time-out
_MOST_BYTES = 1024 * 1024  # of a configuration file
_NO_PYTHON = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)  # raised by ast
# These programs start another program, and have their own options before its name.
_LAUNCHERS = ("env", "python", "python3", "uv", "poetry", "pipenv", "ddtrace-run", "newrelic-admin", "nice", "ionice")
_SHELLS = ("sh", "bash", "dash", "zsh")


def find_program(words: Sequence[str]) -> int:
    """The index of the word that names a known program; 0 if there is none."""
    for place, word in enumerate(words):
        if knows(word):
            return place if not place or _is_launcher(words[0]) else 0
    return 0


def knows(word: str) -> bool:
    """Whether the word names a known program."""
    return os.path.basename(word) in _PROGRAMS


def says_when_ready(words: Sequence[str]) -> bool:
    """Whether this program is known to send READY=1 with these options."""
    name = os.path.basename(words[find_program(words)])
    return name == "gunicorn" or (name == "haproxy" and "-Ws" in words)


def _is_launcher(word: str) -> bool:
    name = os.path.basename(word)
    return name in _LAUNCHERS or name.startswith("python3.") or name.startswith("opentelemetry-")


def adapt(line: CommandLine) -> None:
    """Adapt a command line to a supervisor, with notes.

    Raises CannotWrap.
    """
    _PROGRAMS.get(line.program, _anything)(line)


def _gunicorn(line: CommandLine) -> None:
    line.options["handover"] = "overlap"
    line.directory = (line.take("--chdir") or [line.directory])[-1]
    file, said = _gunicorn_file(line)
    if line.take_flag("-D", "--daemon"):
        line.note("--daemon is removed: the supervisor must see the program start and end")
    if said.get("daemon"):
        raise CannotWrap(
            f"{file} has daemon = True; take it out, because the supervisor must see gunicorn start and end."
        )
    if said.get("pidfile"):
        raise CannotWrap(f"{file} has a pidfile, which two generations cannot share; take it out.")
    _without_pid_file(line, "-p", "--pid")
    _without_reload(line, "--reload")
    kind = (line.values("-k", "--worker-class") or [_word(said.get("worker_class"))])[-1]
    if not line.given:
        binds = line.take("-b", "--bind") or _binds(said.get("bind")) or _binds_of_variables(line)
        if not binds and not line.listen:
            if line.has_hidden_words or (file and "bind" in said):
                raise line.must_know_address()
            binds = ["127.0.0.1:8000"]
        line.listen_on([_bound(line, bind) for bind in binds], "--bind", lanes="uvicorn" in kind)
    elif binds := line.take("-b", "--bind"):
        line.note(f"--bind {' '.join(binds)} is removed: gunicorn uses only the sockets that the supervisor passes")
    if not said.get("preload_app") and not line.take_flag("--preload"):
        line.note("--preload added: without it gunicorn reports ready before importing your application")
    if not said.get("preload_app"):
        line.arguments.insert(0, "--preload")
    _drains_within(line, (line.values("--graceful-timeout") or [_word(said.get("graceful_timeout", 30))])[-1])


def _gunicorn_file(line: CommandLine) -> tuple[str, Mapping[str, object]]:
    """The configuration file and its settings, as far as they are visible without running it; None: not visible."""
    named = line.values("-c", "--config")
    place = named[-1].removeprefix("file:") if named else "gunicorn.conf.py"
    path = os.path.join(line.directory or "/", place)
    try:
        body = ast.parse(read_regular(path, _MOST_BYTES)).body
    except (NotReadable, *_NO_PYTHON):
        return (path, {"bind": None}) if named else ("", {})
    said: dict[str, object] = {}
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                said[statement.targets[0].id] = ast.literal_eval(statement.value)
            except _NO_PYTHON:
                said[statement.targets[0].id] = None
    return path, said


def _binds(value: object) -> list[str]:
    """The addresses of a setting, escaped for a unit; [] if one of them is no printable text."""
    found = value.split(",") if isinstance(value, str) else value  # as gunicorn does
    binds = [_word(bind) for bind in found] if isinstance(found, list | tuple) else []
    return [literal(bind) for bind in binds] if all(binds) else []


def _word(value: object) -> str:
    """A value of the file as one word; "" if it is none.

    An integer with thousands of digits is none: Python refuses to print it.
    """
    if isinstance(value, int) and not 0 <= value <= MOST_COUNT:
        return ""
    word = str(value).strip() if isinstance(value, str | int) else ""
    return word if word.isprintable() else ""


def _binds_of_variables(line: CommandLine) -> list[str]:
    """gunicorn's addresses from the environment: $GUNICORN_CMD_ARGS takes precedence over $PORT.

    Raises CannotWrap.
    """
    try:
        words = shlex.split(line.environment.get("GUNICORN_CMD_ARGS", ""))
    except ValueError as error:
        raise CannotWrap(f"$GUNICORN_CMD_ARGS is not a command line: {error}.") from None
    binds = CommandLine(["gunicorn", *words]).values("-b", "--bind")
    port = line.environment.get("PORT")
    return binds or ([f"0.0.0.0:{port}"] if port else [])


def _bound(line: CommandLine, bind: str) -> str:
    """The address of a --bind of gunicorn or hypercorn.

    Raises CannotWrap.
    """
    if bind.startswith("unix:"):
        return "/" + bind.removeprefix("unix:").lstrip("/")
    if bind.startswith("fd://"):
        raise CannotWrap(f"{line.program} has --bind {bind}, and there is no .socket unit that gives it a socket.")
    host, colon, port = bind.removeprefix("tcp://").rpartition(":")
    if not colon or port.endswith("]"):
        host, port = bind, "8000"
    return line.address(host, port)


def _uvicorn(line: CommandLine) -> None:
    line.options["handover"] = "overlap"
    _without_reload(line, "--reload")
    variables = {name: line.environment.get(f"UVICORN_{name}", "") for name in ("HOST", "PORT", "UDS")}
    host = (line.take("--host") or [variables["HOST"] or "127.0.0.1"])[-1]
    port = (line.take("--port") or [variables["PORT"] or "8000"])[-1]
    paths = line.take("--uds") or ([variables["UDS"]] if variables["UDS"] else [])
    if not line.given:
        if line.has_hidden_words and not line.listen:
            raise line.must_know_address()
        option = "--uds" if paths else "--host, --port"
        line.listen_on(paths or [line.address(host, port)], option, lanes=True)
        if len(line.listen) != 1:
            raise CannotWrap("uvicorn listens on one socket; give one --listen.")
        line.arguments[:0] = ["--fd", f"{{{line.names[0]}}}"]
    elif not line.values("--fd"):
        line.arguments[:0] = ["--fd", "3"]
    _one_process(line, "--workers", "1")
    _drops_what_it_has_not_read(line)
    _is_ready_after(line)
    _drains_within(line, (line.values("--timeout-graceful-shutdown") or [""])[-1])


def _hypercorn(line: CommandLine) -> None:
    line.options["handover"] = "overlap"
    _without_reload(line, "--reload")
    _without_pid_file(line, "-p", "--pid")
    if line.take_flag("-D", "--daemon"):
        line.note("--daemon is removed: the supervisor must see the program start and end")
    if line.values("--quic-bind") or line.values("--insecure-bind"):
        raise CannotWrap(
            "hypercorn's --quic-bind and --insecure-bind open sockets that a reload cannot keep; take them out."
        )
    if not line.given:
        binds = line.take("-b", "--bind")
        if not binds and not line.listen:
            if line.has_hidden_words or line.values("-c", "--config"):
                raise line.must_know_address()
            binds = ["127.0.0.1:8000"]
        line.listen_on([_bound(line, bind) for bind in binds], "--bind", lanes=True)
        line.arguments[:0] = [word for name in line.names for word in ("--bind", f"fd://{{{name}}}")]
    _one_process(line, "--workers", "0", "-w")
    _drops_what_it_has_not_read(line)
    _is_ready_after(line)
    _drains_within(line, (line.values("--graceful-timeout") or ["3"])[-1])


def _celery(line: CommandLine) -> None:
    verb = next((word for word in line.arguments if word in ("worker", "beat", "multi", "flower")), "")
    if verb == "multi":
        raise CannotWrap("celery multi starts processes in the background; let ExecStart= be `celery -A APP worker`.")
    line.directory = (line.take("--workdir") or [line.directory])[-1]
    if line.take_flag("-D", "--detach"):
        line.note("--detach is removed: the supervisor must see the program start and end")
    _without_pid_file(line, "--pidfile")
    alone = verb != "worker" or "-B" in line.arguments or "--beat" in line.arguments
    line.options["handover"] = "exclusive" if alone else "overlap"
    if alone:
        line.note("exclusive: the old process stops before the new one starts, because both would send or do the same")
    else:
        line.note(
            "overlap: while the old worker finishes its tasks, the new one begins others; celery.service among the "
            "examples shows how only one release works at a time"
        )
    _is_ready_after(line)
    _drains_within(line, "")


def _haproxy(line: CommandLine) -> None:
    line.options |= {"handover": "overlap", "stop-signal": "SIGUSR1"}
    line.note("--stop-signal SIGUSR1: SIGTERM would cut its clients off")
    line.take_flag("-D", "-W", "-db")
    _without_pid_file(line, "-p")
    if not line.take_flag("-Ws"):
        line.note("-Ws: with it, haproxy reports when it is ready")
    line.arguments.insert(0, "-Ws")
    if line.listen:
        found = [f"{name.upper()}={{{name}}}" for name in line.names]
        line.before = ["/usr/bin/env", *found, *line.before]
    line.note(
        "its bind lines decide whether clients are refused: with --listen http=ADDRESS here and "
        'bind "fd@${HTTP}" there the supervisor keeps the socket'
    )
    _drains_within(line, "")


def _anything(line: CommandLine) -> None:
    """Adapt a program that is not known."""
    line.options["handover"] = "exclusive"
    line.note(
        "exclusive: the old process stops before the new one starts, so the two never run at once; if they may, "
        "--handover overlap leaves no gap"
    )
    if line.program in _SHELLS:
        line.options["kill-mode"] = "group"
        line.note("--kill-mode group: a shell does not pass a stop signal on to the programs that it runs")
    if not line.notifies:
        _is_ready_after(line)
    _drains_within(line, "")


_PROGRAMS: Mapping[str, Callable[[CommandLine], None]] = {
    "gunicorn": _gunicorn,
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "celery": _celery,
    "haproxy": _haproxy,
}


def _without_pid_file(line: CommandLine, *names: str) -> None:
    for path in line.take(*names):
        line.note(f"{names[-1]} {path} is removed: two generations cannot share it, and systemd knows the main process")


def _without_reload(line: CommandLine, name: str) -> None:
    if line.take_flag(name):
        line.note(f"{name} is removed: it is for development; here, operators request reloads")


def _one_process(line: CommandLine, name: str, number: str, *others: str) -> None:
    """Let sdsupervise start as many processes as the program did."""
    variable = line.environment.get("WEB_CONCURRENCY", "") if line.program == "uvicorn" else ""
    if variable and decimal(variable, MOST_WORKERS) is None:
        raise CannotWrap(f"WEB_CONCURRENCY is {one_line(variable, 100)!r}, which is not a number of processes; fix it.")
    count = (line.take(name, *others) or [variable or "1"])[-1]
    if count not in ("0", "1"):
        line.options["workers"] = count
        line.note(
            f"{name} {count} became an option of sdsupervise, which supervises each process and replaces it "
            f"when it dies"
        )
    if number == "0" or variable:
        line.arguments[:0] = [name, number]


def _drops_what_it_has_not_read(line: CommandLine) -> None:
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


def _is_ready_after(line: CommandLine) -> None:
    if line.notifies:
        return
    line.options["ready-after"] = _READY_AFTER
    line.note(
        f"--ready-after {_READY_AFTER}: {line.program} does not report when it is ready; if your code does, with "
        "`sdsupervise ready`, take the option out"
    )


def _drains_within(line: CommandLine, own_limit: str) -> None:
    """Set the stop time-out: ten seconds beyond the program's own limit, or else what its unit allowed."""
    own = decimal(own_limit, _MOST_OWN_SECONDS)
    if own is not None:
        seconds = own + 10 if own >= 30 else 30
    else:
        seconds = int(max(30.0, min(line.stop_seconds - 10, 86400.0)))
    if seconds != 30:
        line.options["stop-timeout"] = str(seconds)
