"""What gunicorn needs for a reload without a lost request."""

import ast
import os
import re
import shlex
import warnings
from collections.abc import Mapping

from ..errors import CannotWrap, NotReadable
from ..input.checked import MOST_COUNT
from ..linux.files import read_regular
from . import adaptations, gunicorn_file, words
from .line import CommandLine

_MOST_BYTES = 1024 * 1024  # of a configuration file
_NO_PYTHON = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)  # raised by ast
_READS_OURS_SINCE = (20, 1)  # the first version that works with gunicorn_ready.py
_CONTROLLED_SINCE = (25, 1)  # the version that brought the control socket
_DEFAULT_FILE = "gunicorn.conf.py"
_VARIABLE = "GUNICORN_CMD_ARGS"
# What a file may set that cannot be read.
_UNSEEN: Mapping[str, object] = dict.fromkeys(("bind", "chdir", "group", "umask", "user"))
_TELL = "give the address with --listen http=ADDRESS"


class GunicornWords:
    """The settings of gunicorn: those of its command line, then $GUNICORN_CMD_ARGS, then its configuration file."""

    def __init__(self, line: CommandLine) -> None:
        self._line = line
        try:
            found = shlex.split(line.environment.get(_VARIABLE, ""))
        except ValueError as error:
            raise CannotWrap(f"${_VARIABLE} is not a command line: {error}.") from None
        self.variable = CommandLine(["gunicorn", *found], environment=line.environment)
        named = gunicorn_file.yours(line) or gunicorn_file.yours(self.variable)
        place = (line.resolved(named[-1]) or "" if named else _DEFAULT_FILE).removeprefix("file:")
        self.file, self.settings = _read_file(os.path.join(line.directory or "/", place), is_named=bool(named))

    def last(self, setting: str, *names: str) -> str | None:
        """The value of a setting as one word; "" if it is not visible here, None if it is not set."""
        for line in (self._line, self.variable):
            if found := line.values(*names):
                return self._line.resolved(found[-1]) or ""
        return words.literal(_word(self.settings[setting])) if setting in self.settings else None

    def in_variable(self, *flags: str) -> bool:
        """Whether the variable has one of these options without a value."""
        return any(word in flags for word in self.variable.arguments)


def adapt_gunicorn(line: CommandLine) -> None:
    """Adapt gunicorn.

    Raises CannotWrap.
    """
    line.options["handover"] = "overlap"
    line.expand()
    said = GunicornWords(line)
    _refuse_what_stands_elsewhere(said)
    directory = said.last("chdir", "--chdir")
    if _enter_directory(line, said):
        directory = None
    adaptations.without_daemon(line, "-D", "--daemon")
    adaptations.without_pid_file(line, "-p", "--pid")
    adaptations.without_reload(line, "--reload")
    if not line.given:
        _listen(line, said, directory)
    elif binds := line.take("-b", "--bind"):
        line.note(f"--bind {' '.join(binds)} is removed: gunicorn uses only the sockets that the supervisor passes")
    _is_ready(line, said)
    _without_control_socket(line, said)
    limit = said.last("graceful_timeout", "--graceful-timeout")
    adaptations.drains_within(line, "30" if limit is None else limit)


def _refuse_what_stands_elsewhere(said: GunicornWords) -> None:
    """Refuse settings that a supervised gunicorn must not have, where wrap cannot take it out.

    Raises CannotWrap.
    """
    for setting, names, why in (
        ("daemon", ("-D", "--daemon"), "because the supervisor must see gunicorn start and end"),
        ("pidfile", ("-p", "--pid"), "because two generations cannot share the file"),
        ("reload", ("--reload",), "because it is for development; here, operators request reloads"),
    ):
        if said.settings.get(setting):
            raise CannotWrap(f"{said.file} sets {setting}; take it out, {why}.")
        if said.in_variable(*names) or said.variable.values(*names):
            raise CannotWrap(f"${_VARIABLE} has {names[-1]}; take it out, {why}.")


def _enter_directory(line: CommandLine, said: GunicornWords) -> bool:
    """Whether the supervisor itself enters the directory, that of --chdir: so a reload follows a symlink in it.

    gunicorn looks for its configuration file in the directory in which it starts, so the file is named then.
    """
    if not (places := line.take("--chdir")):
        return False
    before, line.directory = line.directory or "/", line.written(places[-1], line.path)

    def absolute(location: str) -> str:
        is_absolute = location.startswith(("python:", "/", "file:/"))
        return location if is_absolute else os.path.join(before, location.removeprefix("file:"))

    named = gunicorn_file.yours(line)[-1:]
    if named and line.known(named[0]) != absolute(line.known(named[0])):
        gunicorn_file.replace(line, line.written(named[0], absolute))
    elif not named and line.directory != before and said.file:
        line.arguments[:0] = ["--config", said.file]
    return True


def _is_ready(line: CommandLine, said: GunicornWords) -> None:
    """Let gunicorn report that it is ready when its workers serve, or else when it has imported the application."""
    if gunicorn_file.is_in_force(line) or (not gunicorn_file.named(line) and gunicorn_file.is_in_force(said.variable)):
        return
    version = adaptations.version_of(line, "gunicorn")
    if line.gunicorn_file and (version is None or version >= _READS_OURS_SINCE):
        gunicorn_file.name_last(line, line.gunicorn_file)
        line.note(
            f"--config {line.gunicorn_file} added: gunicorn reports that it is ready when all its workers serve, not "
            "before it starts them; the file loads your own configuration file and calls your hooks"
            + ("; it needs gunicorn 20.1 or later, and the version is not visible here" if version is None else "")
        )
        return
    preloads = said.settings.get("preload_app") or said.in_variable("--preload")
    if not line.take_flag("--preload") and not preloads:
        line.note("--preload added: without it gunicorn reports ready before importing your application")
    if not preloads:
        line.arguments.insert(0, "--preload")


def _listen(line: CommandLine, said: GunicornWords, directory: str | None) -> None:
    if line.listen:
        line.take("-b", "--bind")
        binds = []
    else:
        binds = (
            line.take("-b", "--bind")
            or said.variable.values("-b", "--bind")
            or _binds(said.settings.get("bind"))
            or ([f"0.0.0.0:{line.environment['PORT']}"] if line.environment.get("PORT") else [])
        )
        if not binds:
            if line.has_hidden_words or (said.file and "bind" in said.settings):
                raise line.must_know_address()
            binds = ["127.0.0.1:8000"]
    lanes = "uvicorn" in (said.last("worker_class", "-k", "--worker-class") or "")
    line.listen_on([_bound(line, said, bind, directory) for bind in binds], "--bind", lanes=lanes)


def _bound(line: CommandLine, said: GunicornWords, bind: str, directory: str | None) -> str:
    """The address of a --bind.

    Raises CannotWrap.
    """
    known = line.known(bind)
    if known.startswith("fd://"):
        raise adaptations.refuse_descriptor(line, f"--bind {bind}")
    if not known.startswith("unix:"):
        return adaptations.tcp(line, bind)
    if not bind.startswith("unix:"):
        line.note_written(bind, known)
        bind = known
    path = bind.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/") and directory == "":
        raise CannotWrap(f"Cannot see which directory gunicorn changes to before it opens {path}; {_TELL}.")
    return line.socket_file(os.path.join(line.path(directory or ""), path), 0o777 & ~_umask(said), _owner(line, said))


def _umask(said: GunicornWords) -> int:
    """The umask for its socket's file, which gunicorn sets to 0 unless a setting says another one.

    Raises CannotWrap.
    """
    text = said.last("umask", "-m", "--umask")
    if text is None:
        return 0
    try:
        return int(re.sub("^0(?=[0-9])", "0o", text), 0)  # as gunicorn reads it
    except ValueError:
        raise CannotWrap(
            "Cannot see the umask that gunicorn gives its UNIX socket; give the mode with --listen http=PATH,mode=MODE."
        ) from None


def _owner(line: CommandLine, said: GunicornWords) -> str:
    """USER:GROUP for its socket's file; "" for those of the unit.

    Raises CannotWrap.
    """
    user, group = said.last("user", "-u", "--user"), said.last("group", "-g", "--group")
    if "" in (user, group):
        raise CannotWrap(
            "Cannot see which user owns gunicorn's UNIX socket; add --listen http=PATH,user=USER,group=GROUP."
        )
    return f"{user or ''}:{group or ''}" if user or group else ""


def _without_control_socket(line: CommandLine, said: GunicornWords) -> None:
    """Take away gunicorn's control socket, of which two generations would share the file."""
    if line.take_flag("--no-control-socket") or said.in_variable("--no-control-socket"):
        line.arguments.insert(0, "--no-control-socket")
        return
    paths = line.take("--control-socket")
    version = adaptations.version_of(line, "gunicorn")
    if paths or (version and version >= _CONTROLLED_SINCE):
        line.arguments.insert(0, "--no-control-socket")
        line.note(
            "--no-control-socket added: two generations would share the file of gunicorn's control socket, and the old "
            "one removes it; gunicorn before 25.1 does not know the option, so take it out with such a version"
        )
    elif version is None:
        line.note(
            "the version of gunicorn is not visible here; from 25.1 on, add --no-control-socket to its command line, "
            "because two generations would share the file of its control socket"
        )


def _read_file(path: str, *, is_named: bool) -> tuple[str, Mapping[str, object]]:
    """The configuration file and its settings, as far as they are visible without running it; None: not visible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for the author of the file
            body = ast.parse(read_regular(path, _MOST_BYTES)).body
    except (NotReadable, *_NO_PYTHON):
        return (path, _UNSEEN) if is_named else ("", {})
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
    return [words.literal(bind) for bind in binds] if all(binds) else []


def _word(value: object) -> str:
    """A value of the file as one word; "" if it is none.

    An integer with thousands of digits is none: Python refuses to print it.
    """
    if isinstance(value, int) and not 0 <= value <= MOST_COUNT:
        return ""
    word = str(value).strip() if isinstance(value, str | int) else ""
    return word if word.isprintable() else ""
