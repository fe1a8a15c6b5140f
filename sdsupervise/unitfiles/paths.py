"""The files that a supervisor needs, and the settings of a unit that hide them or forbid to execute them."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from typing import NamedTuple

from . import gunicorn_file, words
from .finding import Need
from .text import UnitText

PROGRAM = "/usr/bin/sdsupervise"
_MOST_BYTES = 2**20  # of /proc/self/maps
# Symlinks on every system that systemd still supports; it follows them.
_MERGED = ("/bin", "/sbin", "/lib", "/lib64")
_SOCKETS = ("/run/systemd/notify", "/run/systemd/journal")
_HOMES = ("/home", "/root", "/run/user")
ROOTS = ("RootDirectory", "RootImage", "RootMStack")


class OwnFiles(NamedTuple):
    """The files of this sdsupervise."""

    programs: tuple[str, ...]  # that are executed
    libraries: tuple[str, ...]  # directories from which they load code
    gunicorn_file: str = ""  # the configuration file for gunicorn; "" if it is not there


SYSTEM = OwnFiles((PROGRAM, "/usr/bin/python3"), ("/usr/lib/python3",))
"""Those of the package."""


def own_program() -> str:
    """The path of the sdsupervise that a unit is to run: that of the package, or the one that runs now."""
    return PROGRAM if os.access(PROGRAM, os.X_OK) else os.path.abspath(sys.argv[0])


def own_files(program: str) -> OwnFiles:
    """The files of the sdsupervise that runs now; `program` is its path."""
    interpreter = sys.executable
    real = os.path.realpath(interpreter)
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    libraries = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), package, *_loaded_from()}
    programs = tuple(dict.fromkeys((program, interpreter, real)))
    return OwnFiles(programs, tuple(sorted(libraries)), gunicorn_file.installed())


def _loaded_from() -> Iterator[str]:
    """The directories of the shared objects of this process."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            lines = maps.read(_MOST_BYTES).splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and ".so" in fields[5] and fields[5].startswith("/"):
            yield os.path.dirname(fields[5])


def of_paths(unit: UnitText, own: OwnFiles) -> Iterator[Need]:
    """The needs of the supervisor's own files."""
    if any(unit.value(key) for key in ROOTS):
        return  # what exists there is unknown here
    for path in (*own.programs, *own.libraries, *_SOCKETS, "/run/sdsupervise", "/proc"):
        hidden = _hidden_by(unit, path)
        if hidden:
            problem = f"{hidden}= hides {path}, without which the supervisor does not start"
            yield Need(hidden, problem, f"do not hide {path}")
            return
    yield from _on_empty(unit, own)
    denied = [path for path in (*own.programs, *own.libraries) if not _may_execute(unit, path)]
    if denied:
        yield Need(
            "NoExecPaths",
            f"NoExecPaths= forbids to execute {' and '.join(denied)}, so the supervisor does not start (203/EXEC)",
            f"ExecPaths={words.joined(denied)}",
            (f"ExecPaths={words.joined(denied)}",),
            f"ExecPaths has {' and '.join(denied)} too: the supervisor is executed from there",
        )


def is_shown(unit: UnitText, path: str) -> bool:
    """Whether the processes of a unit see a file that the machine has."""
    return not _hidden_by(unit, path) and not _is_on_empty(unit, path)


def _hidden_by(unit: UnitText, path: str) -> str:
    """The setting that hides a path so that no other setting shows it again; "" for none."""
    for key in ("InaccessiblePaths", "InaccessibleDirectories"):
        if any(is_within(path, place) for place, _ in _places(unit, key)):
            return key
    if unit.value("ProtectHome").lower() not in ("", "no", "false", "off", "0", "n", "f", "read-only"):
        if any(is_within(path, place) for place in _HOMES):
            return "ProtectHome"
    if (unit.flag("PrivateTmp") or unit.value("PrivateTmp") == "disconnected" or unit.flag("DynamicUser")) and any(
        is_within(path, place) for place in ("/tmp", "/var/tmp")
    ):
        return "PrivateTmp"
    shown = _shown_places(unit)
    for key in ("BindPaths", "BindReadOnlyPaths", "MountImages"):
        for place, same in _places(unit, key):
            deeper = [other for other in shown if is_within(path, other) and is_within(other, place)]
            if not same and is_within(path, place) and not deeper:
                return key
    return ""


def _on_empty(unit: UnitText, own: OwnFiles) -> Iterator[Need]:
    """The needs where TemporaryFileSystem= puts an empty directory over our files."""
    empty = [place for place, _ in _places(unit, "TemporaryFileSystem")]
    if "/" in empty and _is_on_empty(unit, "/proc"):
        yield Need(
            "TemporaryFileSystem",
            "TemporaryFileSystem=/ leaves nothing of the machine, and the supervisor needs /proc, Python and libraries",
            "name the directories that are to be empty",
        )
        return
    lost = [path for path in (*own.programs, *own.libraries) if _is_on_empty(unit, path)]
    sockets = [path for path in _SOCKETS if _is_on_empty(unit, path)]
    lines = [f"BindReadOnlyPaths={words.joined([*lost, *sockets])}"] if lost or sockets else []
    shown = _shown_places(unit)
    if _is_on_empty(unit, "/run/sdsupervise") and not any(is_within(place, "/run/sdsupervise") for place in shown):
        lines.append("BindPaths=/run/sdsupervise/%N")
        lost.append("/run/sdsupervise")
    if lines:
        yield Need(
            "TemporaryFileSystem",
            f"TemporaryFileSystem= hides {' and '.join([*lost, *sockets])}, which the supervisor needs",
            " and ".join(lines),
            tuple(lines),
            f"{' and '.join([*lost, *sockets])} are shown again: the supervisor needs them",
        )


def _is_on_empty(unit: UnitText, path: str) -> bool:
    """Whether TemporaryFileSystem= puts an empty directory over a path, and nothing shows it again."""
    empty = (place for place, _ in _places(unit, "TemporaryFileSystem"))
    over = max((len(place) for place in empty if is_within(path, place)), default=-1)
    return over > max((len(place) for place in _shown_places(unit) if is_within(path, place)), default=-1)


def _shown_places(unit: UnitText) -> list[str]:
    """The places that show what the machine has there."""
    return [place for key in ("BindPaths", "BindReadOnlyPaths") for place, same in _places(unit, key) if same]


def _may_execute(unit: UnitText, path: str) -> bool:
    found = [
        (len(place), key == "ExecPaths")
        for key in ("NoExecPaths", "ExecPaths")
        for place, _ in _places(unit, key)
        if is_within(path, place)
    ]
    return max(found)[1] if found else True


_FROM_ELSEWHERE = ("BindPaths", "BindReadOnlyPaths", "MountImages")  # SOURCE:PLACE


def _places(unit: UnitText, key: str) -> Iterator[tuple[str, bool]]:
    """The places of a list of paths in the service's tree, each with whether it shows what is there on the machine."""
    for word in unit.words(key):
        parts = word.lstrip("-+").split(":")
        if key not in _FROM_ELSEWHERE:
            yield merged(parts[0]), True
        else:
            place = parts[1] if len(parts) > 1 and parts[1].startswith("/") else parts[0]
            yield merged(place), merged(place) == merged(parts[0]) and key != "MountImages"


def merged(path: str) -> str:
    """The path without the symlinks of a merged /usr, and without a slash at its end."""
    path = os.path.normpath(path) if path else path
    return f"/usr{path}" if any(is_within(path, place) for place in _MERGED) else path


def is_within(path: str, place: str) -> bool:
    """Whether a path is this directory, or in it."""
    return place == "/" or path == place or path.startswith(f"{place}/")
