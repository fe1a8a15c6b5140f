"""What well-known programs need for a reload without a lost request. units/example has a tested unit for each."""

import os
import re
from collections.abc import Callable, Mapping, Sequence

from ..errors import CannotWrap
from . import adaptations
from .for_asgi import adapt_daphne, adapt_hypercorn, adapt_uvicorn
from .for_gunicorn import adapt_gunicorn
from .for_sockets import adapt_puma, adapt_uwsgi
from .launchers import commands, is_shell, launched, name_of, plain
from .line import CommandLine

_BY_LISTEN_PID = ("gunicorn", "puma")  # they take sockets only where LISTEN_PID is their own process
_INITS = ("dumb-init", "tini", "catatonit")
# An option that names a port or an address, with its value joined to it or behind it.
_LONG = re.compile(r"--?(?:\w+[.-])?(?:port|bind|listen|host|addr(?:ess)?|socket|http|uds)(?:=.*)?|runserver")
_SHORT = ("-p", "-b", "-l", "-H")
_EVERYWHERE = re.compile(
    r"(?:(?:tcp|https?|ssl)://)?(?:(?:0\.0\.0\.0|\[::\]|\*):\d{2,5}|:(?:80|\d{3,5}))"
)  # no client says that
_PLACE = re.compile(r"(?:.*[:=])?\d{2,5}|.*\.sock|unix:.*|[\d.]+|\[.*\]|localhost")
_NODES = ("node", "nodejs", "npm", "yarn", "pnpm")
_WITH_A_SOCKET = "if it can take a socket from systemd, --listen NAME=ADDRESS and --handover overlap avoid that"
# What leaves no gap, for programs that are known to open a socket: their words, and a sentence.
_INSTEAD: Sequence[tuple[tuple[str, ...], str]] = (
    (("fastapi",), "uvicorn serves the same application, and can take its socket from the supervisor"),
    (("flask", "run"), "gunicorn serves the same application, and can take its socket from the supervisor"),
    (("litestar", "run"), "uvicorn serves the same application, and can take its socket from the supervisor"),
    (("granian",), "granian cannot take a socket; uvicorn and hypercorn can"),
    (("waitress-serve",), "waitress-serve cannot take a socket; gunicorn can"),
    (("manage.py", "runserver"), "gunicorn and uvicorn serve the same application, and can take a socket"),
    (("rails", "server"), "puma serves the same application, and can take its socket from the supervisor"),
    (("rails", "s"), "puma serves the same application, and can take its socket from the supervisor"),
)
_VERBS_OF_CELERY = ("worker", "beat", "multi", "flower")
# Its options with a value, before the verb.
_VALUES_OF_CELERY = ("-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir")
_OF_CONTAINERS = re.compile(r"(?:docker|podman|nerdctl)(?:-compose)?")
_DETACHES = re.compile(r"-[it]*d[it]*|--detach(?:=true)?")
_OF_NODE = (
    "a Node server opens its own socket, so each reload refuses clients for the time of one stop and one start; one "
    "that calls listen({fd: 3}) takes its socket from the supervisor, with --listen http=ADDRESS and --handover overlap"
)


def find_program(words: Sequence[str]) -> int:
    """The index of the word that names a known program; 0 if there is none."""
    found = launched(words, knows)
    return found.place if found is not None else 0


def knows(word: str) -> bool:
    """Whether the word names a known program."""
    return os.path.basename(word) in _PROGRAMS


def check(words: Sequence[str]) -> None:
    """Raise CannotWrap for what starts its processes in the background and ends, also in the text of a shell."""
    for command in commands(words):
        _check_container(command)
        if "multi" in command[1:] and any("celery" in word.lower() for word in command[: command.index("multi", 1)]):
            raise CannotWrap(
                "celery multi starts processes in the background; let ExecStart= be `celery -A APP worker`, with "
                "Type=simple."
            )


def _check_container(words: Sequence[str]) -> None:
    """Raise CannotWrap for a container that runs on when its command has ended."""
    name, others = name_of(words), {*words}
    if not _OF_CONTAINERS.fullmatch(name):
        return
    if not others.isdisjoint(("run", "up")) and any(map(_DETACHES.fullmatch, others)):
        raise CannotWrap(
            f"{name} with --detach starts a container in the background and ends, so a supervisor would start it again "
            "and again; take --detach out, with Type=simple."
        )
    if "start" in words[1:2] and others.isdisjoint(("-a", "--attach")):
        raise CannotWrap(
            f"{name} start ends when it has started the container, so a supervisor would start it again and again; add "
            "--attach, with Type=simple."
        )


def says_when_ready(words: Sequence[str]) -> bool:
    """Whether this program is known to send READY=1 with these options."""
    name = os.path.basename(words[find_program(words)])
    return name in ("gunicorn", "uwsgi") or (name == "haproxy" and "-Ws" in words)


def adapt(line: CommandLine) -> None:
    """Adapt a command line to a supervisor, with notes.

    Raises CannotWrap.
    """
    _without_shell(line)
    found = launched(line.words, knows)
    if found is None:
        _anything(line)
        return
    line.environment |= {name: line.resolved(value) or "" for name, value in found.variables.items()}
    line.owner, line.has_own_path = found.owner, found.has_own_path
    if found.directory:
        line.directory = line.path(found.directory)
    if found.parent and line.program in _BY_LISTEN_PID:
        line.note(
            f"{found.parent} stays the parent of {line.program}, but {line.program} takes sockets only if the "
            f"supervisor starts it directly; "
            + (
                f"take {found.parent} out of ExecStart=, because a supervisor does its work"
                if found.parent in _INITS
                else f"let ExecStart= name the program in its virtual environment, such as .venv/bin/{line.program}"
            )
            + ", and wrap the unit again: then a reload refuses nobody"
        )
        _anything(line)
        return
    _PROGRAMS[line.program](line)


def _without_shell(line: CommandLine) -> None:
    """Replace `sh -c COMMAND` by the command, if a known program is then what the supervisor starts."""
    found = plain(line.words)
    place = launched(found[0], knows) if found is not None else None
    if found is None or place is None:
        return
    command, directory = found
    if directory:
        line.directory = line.path(directory)
    shell = line.words[0]
    line.before, line.arguments = command[: place.place + 1], command[place.place + 1 :]
    line.note(f"{shell} -c is removed: the supervisor starts {line.program} itself, so that it gets its sockets")


def _celery(line: CommandLine) -> None:
    verb = _verb_of_celery(line)
    if places := line.take("--workdir"):
        line.directory = line.written(places[-1], line.path)
    adaptations.without_daemon(line, "-D", "--detach")
    adaptations.without_pid_file(line, "--pidfile")
    alone = verb != "worker" or "-B" in line.arguments or "--beat" in line.arguments
    line.options["handover"] = "exclusive" if alone else "overlap"
    if alone:
        line.note("exclusive: the old process stops before the new one starts, because both would send or do the same")
        if verb == "flower":
            line.note(
                "celery flower opens its own socket, so each reload refuses clients for the time of one stop and one "
                "start; it cannot take a socket"
            )
    else:
        line.note(
            "overlap: while the old worker finishes its tasks, the new one begins others; celery.service among the "
            "examples shows how only one release works at a time"
        )
    adaptations.is_ready_after(line)
    adaptations.drains_within(line, "")


def _verb_of_celery(line: CommandLine) -> str:
    """Its first verb that is not the value of an option: an app may be called worker, too."""
    words = iter(line.arguments)
    for word in words:
        if word in _VALUES_OF_CELERY:
            next(words, "")
        elif word in _VERBS_OF_CELERY:
            return word
    return ""


def _haproxy(line: CommandLine) -> None:
    line.options |= {"handover": "overlap", "stop-signal": "SIGUSR1"}
    line.note("--stop-signal SIGUSR1: SIGTERM would cut its clients off")
    line.take_flag("-D", "-W", "-db")
    adaptations.without_pid_file(line, "-p")
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
    adaptations.drains_within(line, "")


def _anything(line: CommandLine) -> None:
    """Adapt a program that is not known."""
    line.options["handover"] = "exclusive"
    line.note(
        "exclusive: the old process stops before the new one starts, so the two never run at once; if they may, "
        "--handover overlap leaves no gap"
    )
    if not line.listen:
        _say_gap(line)
    if is_shell(line.before[0]):
        line.options["kill-mode"] = "group"
        line.note("--kill-mode group: a shell does not pass a stop signal on to the programs that it runs")
    if not line.notifies:
        adaptations.is_ready_after(line)
    adaptations.drains_within(line, "")


def _say_gap(line: CommandLine) -> None:
    """Say plainly that a reload refuses clients, if the program seems to open its own socket."""
    for command in commands(line.words):
        name = name_of(command)
        if name in _NODES and not line.given:
            line.note(_OF_NODE)
            return
        what = next(
            (sentence for (known, *verbs), sentence in _INSTEAD if name == known and {*verbs} <= {*command}), ""
        )
        pairs = () if line.given else zip(command, [*command[1:], ""], strict=True)
        if what or any(_names_address(*pair) for pair in pairs):
            line.note(
                f"{name} opens its own socket, so each reload refuses clients for the time of one stop and one start; "
                f"{what or _WITH_A_SOCKET}"
            )
            return


def _names_address(word: str, following: str) -> bool:
    """Whether a word of the command line, with its value, seems to say where the program listens."""
    value = word.partition("=")[2] or following
    if _LONG.fullmatch(word):
        return bool(_PLACE.fullmatch(value)) or value.startswith("$")
    if _EVERYWHERE.fullmatch(word.rpartition("=")[2]):
        return True
    return word in _SHORT and bool(re.fullmatch(r"(?:.*:)?\d{2,5}|\$\{?\w*(?:PORT|ADDR|HOST)\w*\}?", value))


_PROGRAMS: Mapping[str, Callable[[CommandLine], None]] = {
    "gunicorn": adapt_gunicorn,
    "uvicorn": adapt_uvicorn,
    "hypercorn": adapt_hypercorn,
    "daphne": adapt_daphne,
    "puma": adapt_puma,
    "uwsgi": adapt_uwsgi,
    "celery": _celery,
    "haproxy": _haproxy,
}
