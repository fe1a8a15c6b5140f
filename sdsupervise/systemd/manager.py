"""What systemd says of its units, asked by its own tools.

Alternatives considered: D-Bus, for which Python needs a library that no supervisor has otherwise.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import UnitUnavailable
from .own_programs import program, search_path

if TYPE_CHECKING:
    from subprocess import CompletedProcess

ACTIVE = frozenset({"active", "activating", "reloading", "deactivating"})  # ActiveState= of a unit that has processes
DECODED = ("utf-8", "surrogateescape")  # a unit may have a name, and a path in it, of any bytes
_PLAIN = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
_SECONDS = 10.0  # systemd answers at once, or hangs
_MOST_BYTES = 1024 * 1024


def runs_this_machine() -> bool:
    """There is a systemd to ask; sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def systemctl(verb: str, *words: str, of_user: bool = False) -> list[str]:
    """The command line that has the system's manager do this, or this user's own."""
    return ["systemctl", *["--user"] * of_user, verb, *words]


def environment() -> dict[str, str]:
    """For systemd's tools: their words do not depend on who asks."""
    return {**os.environ, **search_path(), **_PLAIN}


def ask(*command: str, seconds: float = _SECONDS) -> "CompletedProcess[str]":
    """Run one of systemd's tools to its end.

    Raises UnitUnavailable where it cannot be run, or does not answer within so many seconds.
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
        raise UnitUnavailable(f"There is no {command[0]} here to ask.") from None
    except OSError as error:
        raise UnitUnavailable(f"Cannot run {command[0]}: {error.strerror}.") from error
    except subprocess.TimeoutExpired:
        raise UnitUnavailable(f"{' '.join(command)} did not answer in {seconds:g} s; does systemd hang?") from None


def properties(unit: str, *names: str, of_user: bool = False) -> Mapping[str, str]:
    """These properties of one unit, of the system's manager or of this user's; "" for one that has no value, lines for
    one that has several.

    Raises UnitUnavailable where no systemd answers.
    """
    wanted = ("--no-pager", f"--property={','.join(names)}", "--", unit)
    done = ask(*systemctl("show", *wanted, of_user=of_user))
    if done.returncode != 0:
        raise UnitUnavailable(f"systemctl cannot say how {unit} is: {last_line(done.stderr)}")
    found = dict[str, list[str]]()
    for line in done.stdout[:_MOST_BYTES].split("\n"):
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return {name: "\n".join(found.get(name, [])) for name in names}


def last_line(said: str) -> str:
    """What a tool says at the end of its standard error: why it failed."""
    return (said.strip().splitlines() or ["it did not say why"])[-1]
