"""`sdsupervise run`: runs a service class from a module or a file, or any command."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..child.process_end import end_on_time
from ..code.code_version import CodeVersion
from ..control import client
from ..errors import ConfigError, SdsuperviseError, ServiceNotLoadable, UsageError
from ..linux import privileges, process_title
from ..linux.inheritance import directory_of_code, is_successor, named_directory
from ..service.claim import Claim, claim
from ..service.daemon import Daemon, SupervisedDaemon
from ..service.failure import say_failure
from ..service.isolation import isolate
from ..service.loading import load, not_loadable
from ..service.plan import Plan
from ..service.start import tell_where_it_starts
from ..service.wanted import WantedService, own_options
from ..settings.kinds import Kind
from ..settings.listen import check as check_listen
from ..settings.listen import with_lanes_ahead
from ..settings.settings import (
    KINDS,
    ONLY_FOR_COMMANDS,
    CommandSettings,
    Settings,
    check_settings,
    in_words,
)

if TYPE_CHECKING:
    from ..service.command import Command
    from ..service.other_python import OtherPython

_EXIT_SECONDS = 2.0  # for the exit functions of code that failed to load
_ALSO_OF_CLASSES = (
    ("pid-file", "PATH", "use PATH as the pid file"),
    ("user", "USER", "user to run as"),
    ("group", "GROUP", "group to run as"),
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "run",
        help="run a service in the foreground",
        usage="%(prog)s [OPTION ...] NAME [ARGUMENT ...]\n"
        "       %(prog)s [OPTION ...] TARGET [ARGUMENT ...]\n"
        "       %(prog)s [OPTION ...] -- COMMAND [ARGUMENT ...]",
        description="Run a service under a supervisor, in the foreground: an instance NAME, which "
        "/etc/sdsupervise/NAME.toml describes, a service class, or any command. Options override the file, and the "
        "file overrides the class.",
        epilog="All arguments after TARGET are those of the service; see 'sdsupervise run TARGET --help'. In the "
        "arguments "
        "of a COMMAND, {NAME} stands for the descriptor number of the listener with that name.",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="run the instance that FILE describes; it has the name of FILE"
    )
    parser.add_argument("--directory", metavar="DIR", help="change to DIR first; each reload follows a symlink again")
    parser.add_argument("--daemonize", action="store_true", help="go to the background (never under systemd)")
    for name, metavar, meaning in _ALSO_OF_CLASSES:
        parser.add_argument(f"--{name}", metavar=metavar, help=meaning)
    parser.add_argument("--no-pid-file", action="store_true", help="do not use a pid file")
    parser.add_argument("--no-warn", action="store_true", help="say nothing")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="the interpreter of the virtual environment of TARGET, which need not contain sdsupervise",
    )
    parser.add_argument(
        "--name", help="the name of a COMMAND, in the journal and of its pid file; default: that of the program"
    )
    _add_settings(parser)
    parser.add_argument(
        "target",
        metavar="NAME | TARGET",
        nargs="?",
        help="an instance; or package.module:Class or path/to/file.py:Class",
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(command=_run, words=[], instance="", no_file="")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting, in a group."""
    settings = parser.add_argument_group("settings", "they override those of the class; times in seconds")
    for name, kind in KINDS.items():
        meaning = f"{kind.meaning} (default {in_words(Settings._field_defaults[name])})"
        option = f"--{name.replace('_', '-')}"
        if kind.form == "flag":
            settings.add_argument(option, dest=f"set_{name}", action="store_const", const=True, help=meaning)
        else:
            settings.add_argument(
                option,
                dest=f"set_{name}",
                metavar=kind.metavar,
                type=_reader(kind),
                action="append" if name == "listen" else "store",
                help=meaning,
            )


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of `sdsupervise run`: a "--" before any TARGET begins a COMMAND.

    Raises UsageError.
    """
    if "--" in arguments:
        # Cut here: argparse removes "--", and would then read a later word as a TARGET.
        cut = arguments.index("--")
        parsed = parser.parse_args(arguments[:cut])
        if parsed.target is None:
            rest = list(arguments[cut + 1 :])
            parsed.words, parsed.arguments = ([], rest) if parsed.config else (rest, [])
            return parsed
    return parser.parse_args(arguments)


def _reader(kind: Kind) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return kind.read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind.wanted}") from None

    return read


def _run(parsed: argparse.Namespace) -> int:
    sys.stdout = sys.__stdout__  # from here on the service uses Python's original one
    given = {name: value for name in KINDS if (value := getattr(parsed, f"set_{name}")) is not None}
    listen: Mapping[str, object] = {name: entry for each in given.pop("listen", ()) for name, entry in each.items()}
    overrides: Mapping[str, object] = given
    claimed: Claim | None = None
    try:
        if parsed.config is not None or _may_be_name(parsed):
            from . import by_name  # imported only for an instance

            overrides, listen = by_name.complete(parsed, overrides, listen)
        if not (parsed.target or any(parsed.words)):
            raise UsageError("Name what to run: a NAME, a TARGET, or -- and a COMMAND. Try 'sdsupervise run --help'.")
        if parsed.target is None:
            isolate()
        if parsed.directory is not None:
            _enter(parsed.directory)
        tell_where_it_starts(overrides)
        process_title.introduce(_name_for_title(parsed))
        process_title.show("successor" if is_successor() else "supervisor")
        if parsed.target is not None and _loads_as_another(parsed):
            # Before its code is loaded: other users may write that code, so it runs as this user, not root.
            made = claim(_plan(parsed, overrides, listen), drop=True)
            if isinstance(made, int):
                return made
            claimed = made
        make = _command if parsed.target is None else _service
        runnable = make(parsed, overrides, listen, claimed)
    except SdsuperviseError as error:
        if claimed is not None:
            claimed.give_back()
        if not isinstance(error, ServiceNotLoadable | ConfigError):
            raise
        print(getattr(error, "traceback_text", ""), end="", file=sys.stderr)
        if parsed.no_file and isinstance(error, ServiceNotLoadable):
            error.args = (f"{str(error).rstrip('.')}. Nor is it an instance: there is no {parsed.no_file}.",)
        status = say_failure(error, claimed.channel if claimed is not None else None)
        end_on_time(status, exit_seconds=_EXIT_SECONDS)  # whatever threads the code has started
        return status
    return runnable.run()


def _may_be_name(parsed: argparse.Namespace) -> bool:
    """Whether the target may be an instance, its file, or a module without a class name."""
    return bool(parsed.target) and (parsed.target.endswith(".toml") or not re.search(r"[:/]|\.py$", parsed.target))


def _loads_as_another(parsed: argparse.Namespace) -> bool:
    """Whether this process is root, and the file or an option names another user."""
    if parsed.user is None or os.geteuid() != 0:
        return False
    identity = privileges.look_up(parsed.user, parsed.group)
    return identity is not None and identity.uid != 0


def _plan(parsed: argparse.Namespace, overrides: Mapping[str, object], listen: Mapping[str, object]) -> Plan:
    """The Plan of a class as far as it is known before its code is loaded."""
    name = parsed.instance or parsed.target.partition(":")[2]
    if not name:
        raise UsageError(
            f"Name the class to run, as {parsed.target}:Class. With --user, the pid file is opened first, under the "
            f"name of the class, and then the code is loaded as that user."
        )
    pid_file = None if parsed.no_pid_file else parsed.pid_file or client.default_pid_file(name)
    listed = check_listen(listen)
    return Plan(
        name,
        read_code_version=lambda: CodeVersion("", ""),  # no code is loaded yet
        pid_file=pid_file,
        user=parsed.user,
        group=parsed.group,
        silent=parsed.no_warn,
        detach=parsed.daemonize,
        supervised=True,
        can_reload=True,  # the running one decides
        listen=listed if overrides.get("handover") == "exclusive" else with_lanes_ahead(listed),
        is_instance=bool(parsed.instance),
    )


def _command(
    parsed: argparse.Namespace,
    overrides: Mapping[str, object],
    listen: Mapping[str, object],
    _claimed: Claim | None,
) -> "Command":
    from ..service.command import Command  # imported only for a command

    pid_file = "" if parsed.pid_file is None else parsed.pid_file
    if parsed.python is not None:
        raise UsageError("--python is for a TARGET; a COMMAND names its interpreter itself.")
    return Command(
        tuple(parsed.words),
        CommandSettings(*check_settings("sdsupervise run", {**overrides, "listen": listen})),
        name=parsed.name or "",
        is_instance=bool(parsed.instance),
        pid_file=None if parsed.no_pid_file else pid_file,
        user=parsed.user,
        group=parsed.group,
        silent=parsed.no_warn,
        detach=parsed.daemonize,
    )


def _service(
    parsed: argparse.Namespace,
    overrides: Mapping[str, object],
    listen: Mapping[str, object],
    claimed: Claim | None,
) -> "Daemon | OtherPython":
    if parsed.name is not None and not parsed.instance:
        raise UsageError("--name is for a COMMAND; a class has a name of its own.")
    wanted = WantedService(
        *(parsed.target, [*own_options(vars(parsed)), *parsed.arguments], overrides, listen),
        foreground=not parsed.daemonize,
        instance=parsed.instance,
    )
    if parsed.python is None:
        service = make(wanted)
        service.take_claim(claimed)
        return service
    from ..service.other_python import OtherPython  # imported only for --python

    return OtherPython(parsed.python, wanted, claimed)


def _name_for_title(parsed: argparse.Namespace) -> str:
    """What this process is called while its code is loaded, which may take long and knows the name better."""
    if parsed.target is None:
        return str(parsed.name or os.path.basename(parsed.words[0]))
    return str(parsed.instance or parsed.target.rpartition(":")[2])


def _enter(directory: str) -> None:
    by_name = os.path.join(named_directory(), directory)
    try:
        os.chdir(directory)
    except OSError as error:
        raise ConfigError(f"Cannot change to the directory {directory}: {error.strerror}.") from error
    os.environ["PWD"] = os.path.normpath(by_name)  # like a shell's cd: the name of the symlink, not its target
    os.environ["PWD"] = named_directory()  # if that is the same place
    directory_of_code.cache_clear()  # computed again in the new directory
    directory_of_code()


def make(wanted: WantedService) -> Daemon:
    """An instance of the wanted class. The wanted listeners replace those of the class, by name.

    Raises ServiceNotLoadable, UsageError.
    """
    target, arguments, attributes, listen, foreground, instance = wanted
    service_class = load(target)
    for name in KINDS:
        option = name.replace("_", "-")
        given = name in attributes or (name == "listen" and listen)
        if given and name in ONLY_FOR_COMMANDS:
            raise UsageError(f"{service_class.__name__} is a class, and --{option} is for a COMMAND.")
        if given and not issubclass(service_class, SupervisedDaemon):
            raise UsageError(f"{service_class.__name__} is not supervised; leave out --{option}.")
    try:
        service = service_class(foreground=foreground, **attributes)
    except (Exception, SystemExit) as error:
        raise not_loadable(target, error) from error
    if listen and isinstance(service, SupervisedDaemon) and isinstance(service.listen, Mapping):
        service.listen = {**service.listen, **listen}
    service.orig_args = list(arguments)
    service.script_name = f"sdsupervise run {instance or target}"
    service.instance_name = instance
    return service
