"""Questions to systemd about its units, asked by systemctl.

Alternatives considered: D-Bus, for which a supervisor would need one more Python library.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import UnitUnavailable
from .own_programs import program, search_path

if TYPE_CHECKING:
    from subprocess import CompletedProcess

# the values of ActiveState= of a unit that has processes; systemctl(1)
ACTIVE = frozenset({"active", "activating", "reloading", "deactivating"})
DECODED = ("utf-8", "surrogateescape")  # a unit's name, and a path in it, may contain any bytes
_PLAIN = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
_SECONDS = 10.0  # systemd answers at once, or hangs
_MOST_BYTES = 1024 * 1024


def runs_this_machine() -> bool:
    """Return whether systemd manages this machine: sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def systemctl(verb: str, *words: str, of_user: bool = False) -> list[str]:
    """Return the command line of systemctl for the system's manager, or for this user's manager."""
    return ["systemctl", *["--user"] * of_user, verb, *words]


def environment() -> dict[str, str]:
    """Return an environment in which systemd's tools always print the same language, without colours or a pager."""
    return {**os.environ, **search_path(), **_PLAIN}


def ask(*command: str, seconds: float = _SECONDS) -> "CompletedProcess[str]":
    """Run one of systemd's tools to its end, and return its exit status, output and error output as texts.

    Raises UnitUnavailable if it cannot be run, or does not end within `seconds`.
    """
    import subprocess

    try:
        return subprocess.run(
            [program(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding=DECODED[0],
            errors=DECODED[1],
            timeout=seconds,
            env=environment(),
        )
    except FileNotFoundError:
        raise UnitUnavailable(f"There is no {command[0]} on this host to ask.") from None
    except OSError as error:
        raise UnitUnavailable(f"Cannot run {command[0]}: {error.strerror}.") from error
    except subprocess.TimeoutExpired:
        raise UnitUnavailable(f"{' '.join(command)} did not answer in {seconds:g} s; does systemd hang?") from None


def properties(unit: str, *names: str, of_user: bool = False) -> Mapping[str, str]:
    """Return these properties of a unit, by name: systemctl(1), show.

    The unit is one of the system's manager, or of this user's. A property without a value is ""; the values of one that
    occurs several times are lines. Raises UnitUnavailable if systemd does not answer.
    """
    wanted = ("--no-pager", f"--property={','.join(names)}", "--", unit)
    done = ask(*systemctl("show", *wanted, of_user=of_user))
    if done.returncode != 0:
        raise UnitUnavailable(f"systemctl cannot report the state of {unit}: {last_line(done.stderr)}")
    found = dict[str, list[str]]()
    for line in done.stdout[:_MOST_BYTES].split("\n"):
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return {name: "\n".join(found.get(name, [])) for name in names}


def last_line(said: str) -> str:
    """Return the last line of a tool's error output, which says why it failed."""
    return (said.strip().splitlines() or ["it did not say why"])[-1]
