"""`sdsupervise run TARGET`: run a service class found in a module or a file."""

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType

from ..config import KINDS, Kind, Settings, in_words
from ..daemon import Daemon, SupervisedDaemon
from ..errors import ConfigError, ServiceNotLoadable, UsageError
from ..launch import say_failure


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "run",
        help="run a service in the foreground",
        description="Run a service class under a supervisor, in the foreground.",
        epilog="Everything after TARGET is the service's own; see 'sdsupervise run TARGET --help'.",
    )
    parser.add_argument(
        "--directory", metavar="DIR", help="change to DIR first; a symlink is followed anew by each reload"
    )
    parser.add_argument("--daemonize", action="store_true", help="go to the background (never under systemd)")
    settings = parser.add_argument_group("settings", "they override those of the class; times in seconds")
    for name, kind in KINDS.items():
        settings.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"set_{name}",
            metavar=kind.metavar,
            type=_reader(kind),
            action="append" if name == "listen" else "store",
            help=f"{kind.meaning} (default {in_words(Settings._field_defaults[name])})",
        )
    parser.add_argument("target", metavar="TARGET", help="package.module:Class or path/to/file.py:Class")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(command=_run)


def _reader(kind: Kind) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return kind.read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind.wanted}") from None

    return read


def _run(parsed: argparse.Namespace) -> int:
    overrides = {name: value for name in KINDS if (value := getattr(parsed, f"set_{name}")) is not None}
    listen = {name: entry for given in overrides.pop("listen", ()) for name, entry in given.items()}
    try:
        if parsed.directory is not None:
            _enter(parsed.directory)
        service = _make(parsed.target, listen, foreground=not parsed.daemonize, **overrides)
    except (ServiceNotLoadable, ConfigError) as error:
        print(getattr(error, "traceback_text", ""), end="", file=sys.stderr)
        return say_failure(error)
    service.orig_args = list(parsed.arguments)
    service.script_name = f"sdsupervise run {parsed.target}"
    _name_process("sdsupervise")
    return service.run()


def _name_process(name: str) -> None:
    """What `systemctl status` calls the main pid: the same in every generation, also in those executed as python3."""
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise ConfigError(f"Cannot change to --directory {directory}: {error.strerror}.") from error


def _make(target: str, listen: Mapping[str, object], **attributes: object) -> Daemon:
    """The service a target names. What it is to listen on beats its own, name by name.

    Raises ServiceNotLoadable, UsageError.
    """
    service_class = load(target)
    for name in KINDS:
        if (name in attributes or (name == "listen" and listen)) and not issubclass(service_class, SupervisedDaemon):
            option = name.replace("_", "-")
            raise UsageError(f"{service_class.__name__} is not supervised, so --{option} means nothing to it.")
    try:
        service = service_class(**attributes)
    except (Exception, SystemExit) as error:
        raise _not_loadable(target, error) from error
    if isinstance(service, SupervisedDaemon) and listen:
        service.listen = {**service.listen, **listen}
    return service


def load(target: str) -> type[Daemon]:
    """The class a target names: package.module:Class or path/to/file.py:Class; the class may be left out if there is
    only one.

    Raises ServiceNotLoadable, with the traceback of the service's own code if it had one.
    """
    place, _, name = target.partition(":")
    is_file = place.endswith(".py") or "/" in place
    try:
        module = _import_file(place) if is_file else _import_module(place)
    except ServiceNotLoadable:
        raise
    except (Exception, SystemExit) as error:
        raise _not_loadable(target, error) from error
    found = _classes_in(module) if not name else [getattr(module, name, None)]
    if len(found) != 1 or not (isinstance(found[0], type) and issubclass(found[0], Daemon)):
        known = ", ".join(cls.__name__ for cls in _classes_in(module)) or "none"
        raise ServiceNotLoadable(
            f"Cannot load {target}: name one subclass of Daemon or SupervisedDaemon; {place} defines: {known}."
        )
    return found[0]


def _import_module(name: str) -> ModuleType:
    # As `python -m` does; the directory resolved, so that a deploy does not change what is imported later.
    sys.path.insert(0, os.path.realpath(os.getcwd()))
    return importlib.import_module(name)


def _import_file(path: str) -> ModuleType:
    real = os.path.realpath(path)
    if not os.path.isfile(real):
        raise ServiceNotLoadable(f"Cannot load {path}: there is no such file (looked for {real}).")
    sys.path.insert(0, os.path.dirname(real))
    name = os.path.splitext(os.path.basename(real))[0]
    if name in sys.modules:
        name = f"service_{name}"  # a file called json.py is a service, not that json
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise ServiceNotLoadable(f"Cannot load {path}: it is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _classes_in(module: ModuleType) -> list[type[Daemon]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Daemon) and value.__module__ == module.__name__
    ]


def _not_loadable(target: str, error: BaseException) -> ServiceNotLoadable:
    lines = traceback.format_exception(_without_our_frames(error))
    return ServiceNotLoadable(f"Cannot load {target}: {_last_line(error)}", traceback_text="".join(lines))


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _without_our_frames(error: BaseException) -> BaseException:
    """The error with a traceback that begins in the service's code."""
    frames = error.__traceback__
    while frames is not None and (
        frames.tb_frame.f_code.co_filename == __file__ or "importlib" in frames.tb_frame.f_code.co_filename
    ):
        frames = frames.tb_next
    return error.with_traceback(frames)
