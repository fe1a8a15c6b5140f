"""Where instances are found by name: the file that describes one, and the directory it runs in.

Root has one place for each, the system's. Any other user has places of their own before it, as `systemd --user` gives
them ($XDG_RUNTIME_DIR for RuntimeDirectory=, ~/.config for what is configured).

A name becomes part of a path, a unit's name, and a word of commands that people copy, so nothing is called by another
one than is allowed here, whoever says it: a person, or whoever may make a directory.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping

from ..errors import UsageError

_OURS = "sdsupervise"
# What systemd takes for the instance of a unit, but for what is escaped there or means something to us. It names a
# directory with a socket in it, too, whose address has 107 bytes.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
NAMES = "a name has up to 64 letters, digits, '_', '.' and '-', and begins with none of the last two"
# Of a unit that was put under sdsupervise (%N): it may be of a template, and have what systemd-escape makes of others.
_UNIT = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:@\\-]{0,127}")


def instance_name(text: str) -> str:
    """The instance that somebody means who says its name, or its unit's: NAME, NAME.service, sdsupervise@NAME."""
    return text.removesuffix(".service").removeprefix(f"{_OURS}@")


def is_name(text: str) -> bool:
    """An instance can be called that."""
    return _NAME.fullmatch(text) is not None and not text.endswith((".toml", ".service"))


def can_run(name: str) -> bool:
    """Something that runs can be called that: an instance, or a unit that was put under sdsupervise."""
    return _UNIT.fullmatch(name) is not None


def config_directories(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Where NAME.toml may stand, the first one first."""
    system = f"/etc/{_OURS}"
    # What the system runs as some user is the system's all the same: that user does not say what it is.
    is_systems = "INVOCATION_ID" in environment and not environment.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0 or is_systems:
        return [system]
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [os.path.join(home, _OURS), system]


def run_directories(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Where a directory called as the instance may stand, the first one first."""
    system, own = f"/run/{_OURS}", environment.get("XDG_RUNTIME_DIR", "")
    return [system] if os.geteuid() == 0 or not own else [os.path.join(own, _OURS), system]


def config_file(name: str) -> str | None:
    """The file that describes the instance, if there is one; a symlink to nothing is one that cannot be read."""
    if not is_name(name):
        return None
    paths = (os.path.join(directory, f"{name}.toml") for directory in config_directories())
    return next((path for path in paths if os.path.lexists(path)), None)


def is_users_own(name: str) -> bool:
    """The file that describes the instance is where only this user's programs look: `systemd --user` runs it."""
    file = config_file(name)
    return file is not None and os.path.dirname(file) != config_directories()[-1]


def where_configured(name: str) -> str:
    """Where that file may stand, for people."""
    return " or ".join(os.path.join(directory, f"{name}.toml") for directory in config_directories())


def run_directory(name: str) -> str:
    """Where the instance runs; where it would, if it does not.

    Raises UsageError for a name that nothing can have.
    """
    if not can_run(name):
        raise UsageError(f"An instance cannot be called {name!r}; {NAMES}.")
    paths = [os.path.join(directory, name) for directory in run_directories()]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def control_socket(name: str) -> str:
    """Where its supervisor answers. Raises UsageError as run_directory."""
    return os.path.join(run_directory(name), "control")


def control_sockets(names: Iterable[str]) -> dict[str, str]:
    """The same of each, by name."""
    return {name: control_socket(name) for name in names}


def configured() -> list[str]:
    """The names of all instances that have a file, sorted."""
    return _names(config_directories(), is_name, ".toml")


def misnamed() -> list[str]:
    """What the other files there are called, sorted: no instance can be called that."""
    return _names(config_directories(), lambda name: not is_name(name), ".toml")


def running() -> list[str]:
    """The names of all instances that have a control socket, sorted; their supervisors may be dead all the same."""
    names = _names(run_directories(), can_run)
    return [name for name in names if os.path.exists(control_socket(name))]


def _names(directories: list[str], is_wanted: Callable[[str], bool], suffix: str = "") -> list[str]:
    found = set()
    for directory in directories:
        try:
            entries = os.listdir(directory)
        except OSError:  # not there, or not ours to look into
            continue
        names = (entry.removesuffix(suffix) for entry in entries if entry.endswith(suffix) and entry[0] != ".")
        found |= {name for name in names if is_wanted(name)}
    return sorted(found)
