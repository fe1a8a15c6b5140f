"""What uvicorn, hypercorn and daphne need for a reload without a lost request."""

import re

from ..errors import CannotWrap
from . import adaptations
from .line import CommandLine

_ONE_PROCESS_SINCE = (0, 15)  # hypercorn's --workers 0; before, its one worker already is the main process, or none is


def adapt_uvicorn(line: CommandLine) -> None:
    """Adapt uvicorn.

    Raises CannotWrap.
    """
    line.options["handover"] = "overlap"
    line.expand()
    had_one = "--reload" in line.arguments
    adaptations.without_reload(line, "--reload")
    line.take("--reload-dir", "--reload-include", "--reload-exclude", "--reload-delay")
    if line.environment.get("UVICORN_RELOAD", "").lower() not in ("", "0", "false", "no", "off"):
        raise CannotWrap("UVICORN_RELOAD is set, which is for development; take it out of the unit's environment.")
    variables = {name: line.environment.get(f"UVICORN_{name}", "") for name in ("HOST", "PORT", "UDS")}
    host = (line.take("--host") or [variables["HOST"] or "127.0.0.1"])[-1]
    port = (line.take("--port") or [variables["PORT"] or "8000"])[-1]
    paths = line.take("--uds") or ([variables["UDS"]] if variables["UDS"] else [])
    if not line.given:
        if line.has_hidden_words and not line.listen:
            raise line.must_know_address()
        if descriptors := line.values("--fd"):
            raise adaptations.refuse_descriptor(line, f"--fd {descriptors[-1]}")
        option = "--uds" if paths else "--host, --port"
        if line.listen:
            addresses = []
        elif paths:
            addresses = [line.socket_file(paths[-1], 0o666)]  # uvicorn sets this mode itself
        else:
            addresses = [adaptations.host_and_port(line, host, port)]
        line.listen_on(addresses, option, lanes=True)
        if len(line.listen) != 1:
            raise CannotWrap("uvicorn listens on one socket; give one --listen.")
        line.arguments[:0] = ["--fd", f"{{{line.names[0]}}}"]
    elif not line.values("--fd"):
        line.arguments[:0] = ["--fd", "3"]
    adaptations.one_process(line, ["--workers"], ["UVICORN_WORKERS", "WEB_CONCURRENCY"], [])
    if had_one and (workers := line.options.get("workers")):
        line.note(f"uvicorn had one process until now: it ignores --workers beside --reload; {workers} run now")
    adaptations.drops_what_it_has_not_read(line)
    adaptations.is_ready_after(line)
    limit = line.environment.get("UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN", "")
    adaptations.drains_within(line, (line.values("--timeout-graceful-shutdown") or [limit])[-1])


def adapt_hypercorn(line: CommandLine) -> None:
    """Adapt hypercorn.

    Raises CannotWrap.
    """
    line.options["handover"] = "overlap"
    line.expand()
    adaptations.without_reload(line, "--reload")
    adaptations.without_pid_file(line, "-p", "--pid")
    adaptations.without_daemon(line, "-D", "--daemon")
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
        addresses = [] if line.listen else [_bound_by_hypercorn(line, bind) for bind in binds]
        line.listen_on(addresses, "--bind", lanes=True)
        line.arguments[:0] = [word for name in line.names for word in ("--bind", f"fd://{{{name}}}")]
    version = adaptations.version_of(line, "hypercorn")
    alone = ["--workers", "0"] if version is not None and version >= _ONE_PROCESS_SINCE else []
    adaptations.one_process(line, ["--workers", "-w"], [], alone)
    adaptations.drops_what_it_has_not_read(line)
    adaptations.is_ready_after(line)
    adaptations.drains_within(line, (line.values("--graceful-timeout") or ["3"])[-1])


def _bound_by_hypercorn(line: CommandLine, bind: str) -> str:
    """The address of a --bind.

    Raises CannotWrap.
    """
    known = line.known(bind)
    if known.startswith("fd://"):
        raise adaptations.refuse_descriptor(line, f"--bind {bind}")
    if not known.startswith("unix:"):
        return adaptations.tcp(line, bind)
    said = {name: line.values(*names) for name, names in _OF_FILE.items()}
    if line.values("-c", "--config"):
        raise CannotWrap(
            "A file of hypercorn's --config may set the mode of its UNIX socket; give the mode with "
            "--listen http=PATH,mode=MODE."
        )
    umask = line.number(said["umask"][-1], 0o777) if said["umask"] else line.umask  # decimal, as hypercorn reads it
    if umask is None:
        raise CannotWrap("Cannot see hypercorn's --umask; give the mode with --listen http=PATH,mode=MODE.")
    both = said["user"] and said["group"]  # else hypercorn changes nothing
    owner = f"{line.known(said['user'][-1])}:{line.known(said['group'][-1])}" if both else ""
    if not bind.startswith("unix:"):
        line.note_written(bind, known)
        bind = known
    return line.socket_file(bind.removeprefix("unix:"), 0o777 & ~umask, owner)


_OF_FILE = {"umask": ("-m", "--umask"), "user": ("-u", "--user"), "group": ("-g", "--group")}


def adapt_daphne(line: CommandLine) -> None:
    """Adapt daphne, which can use one TCP socket that it is given.

    Raises CannotWrap.
    """
    line.expand()
    paths = [*line.values("-u", "--unix-socket"), *line.values("-e", "--endpoint"), *line.values("--fd")]
    hidden = [word for word in line.arguments if re.fullmatch(r"\$\w+", word) and line.resolved(word) is None]
    if line.given or paths or (hidden and not line.listen):
        line.options["handover"] = "exclusive"
        what = "gets sockets from a .socket unit"
        if paths:
            what = f"listens on {paths[0]}"
        elif hidden:
            what = f"may have more options in {hidden[0]}"
        line.note(
            f"exclusive: daphne {what}, and the supervisor can keep only one TCP socket for it (--bind, --port); "
            "so each reload refuses clients for the time of one stop and one start"
        )
    else:
        line.options["handover"] = "overlap"
        hosts, ports = line.take("-b", "--bind"), line.take("-p", "--port")
        host, port = (hosts or ["127.0.0.1"])[-1], (ports or ["8000"])[-1]
        addresses = [] if line.listen else [adaptations.host_and_port(line, host, port)]
        line.listen_on(addresses, "--bind, --port", lanes=True)
        if len(line.listen) != 1 or not line.has_lanes():
            raise CannotWrap("daphne can use one TCP socket of the supervisor; give one --listen http=HOST:PORT.")
        line.arguments[:0] = ["--fd", f"{{{line.names[0]}}}"]
        line.note(
            "daphne ends the requests that it works on when it stops, so a reload cuts those off; it refuses no "
            "connection. uvicorn and hypercorn finish them first"
        )
    adaptations.is_ready_after(line)
    adaptations.drains_within(line, "")
