"""What puma and uwsgi, which take sockets as systemd passes them, need for a reload without a lost request."""

import re

from ..errors import CannotWrap, NotReadable
from ..input.printable import one_line
from ..linux.files import read_regular
from . import adaptations, words
from .line import CommandLine

_MOST_BYTES = 1024 * 1024  # of a configuration file
_PUMA_FILES = ("config/puma.rb",)
_BIND = re.compile(r"""bind\s*\(?\s*(["'])([^"'#\\]+)\1\s*\)?""")
_PORT = re.compile(
    r"""port\s*\(?\s*(?:["']?(\d+)["']?|ENV\.fetch\(\s*["'](\w+)["']\s*(?:,\s*["']?(\d+)["']?\s*)?\)\s*"""
    r"""(?:\{\s*["']?(\d+)["']?\s*\})?|ENV\[["'](\w+)["']\]\s*\|\|\s*["']?(\d+)["']?)\s*\)?"""
)
_MOST_OF_STATEMENT = 1000  # letters
_MENTIONS_SOCKET = re.compile(
    r"\b(?:bind|port|ssl_bind|activate_control_app|bind_to_activated_sockets|eval|require\w*)\b"
)
_PUMA_UNKNOWN = (
    "the addresses of puma are not visible here, so it opens its sockets itself, and each reload refuses clients for "
    "the time of one stop and one start. Write numeric addresses in its `bind` lines, and use --listen http=ADDRESS "
    "--handover overlap: then the supervisor passes the sockets to puma, and a reload refuses no client"
)
_GRACEFULLY = "unix_signal:15 gracefully_kill_them_all"
_UWSGI_SOCKETS = ("--socket", "-s", "--uwsgi-socket", "--http-socket", "--fastcgi-socket", "--scgi-socket")
_UWSGI_FILES = re.compile(r"(?:--(?:ini|yaml|yml|xml|json|emperor|inherit)\b.*|-x|-y)|.*\.(?:ini|yaml|yml|xml|json|js)")
_UWSGI_OWN_SOCKETS = ("--http", "--https", "--http11-socket", "--https-socket", "--udp", "--zerg", "--fastrouter")


def adapt_puma(line: CommandLine) -> None:
    """Adapt puma, which matches its own addresses with the sockets that it gets by LISTEN_FDS.

    Raises CannotWrap.
    """
    line.expand()
    adaptations.without_pid_file(line, "--pidfile")
    if line.values("--control-url"):
        line.options["handover"] = "exclusive"
        line.note(
            "exclusive: two generations cannot share --control-url, so each reload refuses clients for the time of "
            "one stop and one start; without --control-url, a reload refuses no client"
        )
    elif line.given or line.listen:
        line.options["handover"] = "overlap"
        if line.listen:
            line.note("each address of --listen must also be one of puma's own, or puma closes that socket")
    else:
        binds = _binds_of_puma(line)
        addresses = [address for bind in binds or [] if (address := _bound_by_puma(line, bind))]
        if binds is None or len(addresses) != len(binds):
            line.options["handover"] = "exclusive"
            line.note(_PUMA_UNKNOWN)
        else:
            line.options["handover"] = "overlap"
            line.listen_on(addresses, "")
            line.note(
                "--listen has the addresses on which puma listens, and puma gets those sockets from the supervisor, so "
                "that a reload refuses nobody; change them in both places"
            )
    adaptations.is_ready_after(line)
    adaptations.drains_within(line, "")


def _binds_of_puma(line: CommandLine) -> list[str] | None:
    """What puma binds, as URLs of resolved text; None if it is not visible here."""
    if line.has_hidden_words:
        return None
    named = line.values("-C", "--config")
    binds = [line.known(bind) for bind in line.values("-b", "--bind")]
    binds += [f"tcp://0.0.0.0:{line.known(port)}" for port in line.values("-p", "--port")]
    try:
        paths = [line.path(line.known(path)) for path in named if path != "-"] or (
            [] if named else [line.path(path) for path in _PUMA_FILES]
        )
        text = "\n".join(read_regular(path, _MOST_BYTES).decode(errors="replace") for path in paths)
    except (NotReadable, CannotWrap):
        if named or line.at_home:
            return None
        text = ""  # there is no file of that name
    found = _binds_of_ruby(text, line)
    if found is None or (binds and found):
        return None  # whether puma adds the two depends on its version
    port = line.environment.get("PORT", "9292")
    return binds or found or [f"tcp://0.0.0.0:{port}"]


def _binds_of_ruby(text: str, line: CommandLine) -> list[str] | None:
    """The addresses of puma's configuration file, if it says them plainly."""
    found: list[str] = []
    for raw in text.splitlines():
        statement = raw.partition(" #")[0].strip()
        if statement.startswith("#") or not _MENTIONS_SOCKET.search(statement):
            continue
        plain = " ".join(statement.split())  # the expressions try all ways to divide blanks
        if len(statement) > _MOST_OF_STATEMENT:
            return None
        if (bind := _BIND.fullmatch(plain)) and bind[2] in statement:
            found.append(words.literal(bind[2]))
        elif port := _PORT.fullmatch(plain):
            variable = port[2] or port[5]
            default = port[1] or port[3] or port[4] or port[6] or ""
            value = line.environment.get(variable, default) if variable else default
            found.append(f"tcp://0.0.0.0:{value}")
        else:
            return None
    return found


def _bound_by_puma(line: CommandLine, bind: str) -> str:
    """The address of a URL of puma, with the mode that puma gives a file; "" if puma would not find that socket."""
    url, _, query = bind.partition("?")
    kind, separator, place = url.partition("://")
    options = dict(part.partition("=")[::2] for part in query.split("&"))
    if kind in ("tcp", "ssl") and separator:
        host, _, port = place.rpartition(":")
        address = line.address(host, port)
        return address if address == place else ""  # puma knows the socket only by this very text
    if kind != "unix" or place.startswith("@"):
        return ""
    try:
        umask = int(options["umask"], 8) if "umask" in options else line.umask
        mode = int(options["mode"], 8) if "mode" in options else 0o777 & ~umask
    except ValueError:
        return ""
    return line.socket_file(place, mode) if place.startswith("/") else ""


def adapt_uwsgi(line: CommandLine) -> None:
    """Adapt uwsgi, which takes sockets as fd://NUMBER.

    Raises CannotWrap.
    """
    line.expand()
    binds = line.values(*_UWSGI_SOCKETS)
    hidden = [word for word in line.arguments if _UWSGI_FILES.fullmatch(word)]
    others = [word for word in line.arguments if word.partition("=")[0] in _UWSGI_OWN_SOCKETS]
    adaptations.without_pid_file(line, "--pidfile", "--pidfile2", "--safe-pidfile")
    if any(word == "-d" or word.startswith("--daemonize") for word in line.arguments):
        raise CannotWrap("uwsgi has --daemonize; take it out, because the supervisor must see uwsgi start and end.")
    if hidden or others or line.given or line.listen or line.has_hidden_words or not binds:
        _keep_uwsgi(line, hidden, others)
    else:
        _pass_sockets_to_uwsgi(line)
    # No ready-after: uwsgi sends READY=1 wherever NOTIFY_SOCKET is set.
    adaptations.drains_within(line, "")


def _keep_uwsgi(line: CommandLine, hidden: list[str], others: list[str]) -> None:
    line.options |= {"handover": "exclusive", "stop-signal": "SIGINT"}
    what = f"what {hidden[0]} says is not visible here" if hidden else f"{(others or ['it'])[0]} opens its own socket"
    line.note(
        f"exclusive: {what}, so each reload refuses clients for the time of one stop and one start. With "
        "--socket or --http-socket on the command line, and all other options there too, a reload refuses nobody"
    )
    line.note("--stop-signal SIGINT: uwsgi takes SIGTERM for a reload, unless it has die-on-term")


def _pass_sockets_to_uwsgi(line: CommandLine) -> None:
    """Give uwsgi its sockets as descriptors, and let SIGTERM or SIGHUP stop it after the requests under way."""
    line.options["handover"] = "overlap"
    if line.take_flag("--vacuum"):
        line.note("--vacuum is removed: uwsgi would remove the file of a socket on which its successor serves")
    mode = _mode_of_uwsgi(line)
    found: list[tuple[str, str]] = []
    for option in _UWSGI_SOCKETS:
        for bind in line.take(option):
            found.append((option, _bound_by_uwsgi(line, bind, mode)))
    line.listen_on([address for _, address in found], "its sockets' options")
    sockets = [
        word for name, (option, _) in zip(line.names, found, strict=True) for word in (option, f"fd://{{{name}}}")
    ]
    line.arguments[:0] = sockets
    line.options["stop-signal"] = "SIGTERM"  # whatever KillSignal= was
    if {"--master", "-M"} & set(line.arguments):
        line.arguments[:0] = ["--hook-master-start", _GRACEFULLY]
        line.note("--hook-master-start: SIGTERM lets uwsgi finish the requests that it works on")
    else:
        if line.values("--processes", "-p", "--workers"):
            line.arguments[:0] = ["--master", "--hook-master-start", _GRACEFULLY]
            line.note("--master and --hook-master-start: SIGTERM lets all of uwsgi's processes finish their requests")
        else:
            line.options["stop-signal"] = "SIGHUP"
            line.note("--stop-signal SIGHUP: it lets uwsgi without --master finish the request that it works on")
    if not line.take_flag("--need-app"):
        line.note("--need-app added: without it uwsgi reports ready although it cannot load your application")
    line.arguments.insert(0, "--need-app")
    # With LISTEN_PID it would open each socket a second time, for its own protocol.
    line.before = ["/usr/bin/env", "--unset=LISTEN_PID", *line.before]


def _mode_of_uwsgi(line: CommandLine) -> int:
    """The mode that uwsgi gives the file of a UNIX socket."""
    for word in [*line.arguments]:
        found = re.fullmatch(r"(?:--chmod-socket|-C)=?(.*)", word)
        if found is None:
            continue
        line.take_flag(word)
        try:
            return int(found[1], 8) if found[1] else 0o666
        except ValueError:
            raise CannotWrap(f"uwsgi has {one_line(word, 100)}, which is not an octal mode; write a number.") from None
    return 0o777 & ~line.umask


def _bound_by_uwsgi(line: CommandLine, bind: str, mode: int) -> str:
    """The address of a socket option.

    Raises CannotWrap.
    """
    known = line.known(bind)
    if known.startswith(("fd://", "@")) or "*" in known or known.startswith("="):
        raise CannotWrap(f"uwsgi has a socket {bind}, which a supervisor cannot open; write HOST:PORT or a path.")
    if ":" not in known:
        owner = (line.take("--chown-socket") or [""])[-1]
        return line.socket_file(bind, mode, line.known(owner) if owner else "")
    return adaptations.tcp(line, bind)
