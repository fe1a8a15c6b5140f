"""Where instances are found by name: the file that describes one, and the directory where it runs.

Root uses the system's directories. Any other user has own directories before them, as `systemd --user` defines them
($XDG_RUNTIME_DIR for RuntimeDirectory=, ~/.config for configuration).

A name becomes part of a path, of a unit's name, and of commands that operators copy. So every name is checked here, no
matter whether a user typed it or it is the name of a directory.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping

from ..errors import UsageError

_OURS = "sdsupervise"
# What systemd takes as the instance of a unit, without what needs escaping or has a meaning for us. The name is also
# part of a socket's path, which has at most 107 bytes.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
NAMES = "a name has up to 64 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'"
# The name of a unit that `sdsupervise wrap` changed (%N). It may belong to a template, and be escaped by
# systemd-escape(1).
_UNIT = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:@\\-]{0,127}")


def instance_name(text: str) -> str:
    """Return the instance's name, given its name, its file or its unit: NAME, /.../NAME.toml, NAME.service,
    sdsupervise@NAME."""
    if "/" in text and text.endswith(".toml"):
        return os.path.basename(text).removesuffix(".toml")
    return text.removesuffix(".service").removeprefix(f"{_OURS}@")


def is_name(text: str) -> bool:
    """Return whether an instance may have this name."""
    return _NAME.fullmatch(text) is not None and not text.endswith((".toml", ".service"))


def can_run(name: str) -> bool:
    """Return whether a running service may have this name: an instance, or a unit that `sdsupervise wrap` changed."""
    return _UNIT.fullmatch(name) is not None


def config_directories(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the directories where NAME.toml may stand; the first has priority."""
    system = f"/etc/{_OURS}"
    # A system unit with User= belongs to the system, so that user's own files do not count.
    is_systems = "INVOCATION_ID" in environment and not environment.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0 or is_systems:
        return [system]
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [os.path.join(home, _OURS), system]


def run_directories(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the directories in which an instance's runtime directory may stand; the first has priority."""
    system, own = f"/run/{_OURS}", environment.get("XDG_RUNTIME_DIR", "")
    return [system] if os.geteuid() == 0 or not own else [os.path.join(own, _OURS), system]


def config_file(name: str) -> str | None:
    """Return the file that describes the instance, or None. A dangling symlink counts, and cannot be read."""
    if not is_name(name):
        return None
    paths = (os.path.join(directory, f"{name}.toml") for directory in config_directories())
    return next((path for path in paths if os.path.lexists(path)), None)


def is_users_own(name: str) -> bool:
    """Return whether the instance's file is in the user's own directory, so that `systemd --user` runs it."""
    file = config_file(name)
    return file is not None and os.path.dirname(file) != config_directories()[-1]


def where_configured(name: str) -> str:
    """Return the possible paths of the instance's file, as text for a message."""
    return " or ".join(os.path.join(directory, f"{name}.toml") for directory in config_directories())


def run_directory(name: str) -> str:
    """Return the directory where the instance runs, or would run.

    Raises UsageError if the name is not valid.
    """
    if not can_run(name):
        raise UsageError(f"An instance cannot be called {name!r}; {NAMES}.")
    paths = [os.path.join(directory, name) for directory in run_directories()]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def control_socket(name: str) -> str:
    """Return the path of the instance's control socket. Raises UsageError if the name is not valid."""
    return os.path.join(run_directory(name), "control")


def control_sockets(names: Iterable[str]) -> dict[str, str]:
    """Return the control socket of each of these names. Raises UsageError if one is not valid."""
    return {name: control_socket(name) for name in names}


def configured() -> list[str]:
    """Return the names of all instances that have a file, sorted."""
    return _names(config_directories(), is_name, ".toml")


def misnamed() -> list[str]:
    """Return the names of files that are not valid names of an instance, sorted."""
    return _names(config_directories(), lambda name: not is_name(name), ".toml")


def running() -> list[str]:
    """Return the names of all instances that have a control socket, sorted. Their supervisors may be dead."""
    names = _names(run_directories(), can_run)
    return [name for name in names if os.path.exists(control_socket(name))]


def _names(directories: list[str], is_wanted: Callable[[str], bool], suffix: str = "") -> list[str]:
    found = set()
    for directory in directories:
        try:
            entries = os.listdir(directory)
        except OSError:  # it does not exist, or we may not read it
            continue
        names = (entry.removesuffix(suffix) for entry in entries if entry.endswith(suffix) and entry[0] != ".")
        found |= {name for name in names if is_wanted(name)}
    return sorted(found)
