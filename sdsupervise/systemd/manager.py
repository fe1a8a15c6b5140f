"""What systemd says of a unit, asked by its own tool: `systemctl show`.

Alternatives considered: D-Bus, for which Python needs a library that no supervisor has otherwise.
"""

import os
from collections.abc import Mapping

from ..errors import UnitUnavailable
from .own_programs import program, search_path

_SECONDS = 10.0  # it answers at once, or hangs
_MOST_BYTES = 1024 * 1024
PLAIN = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}  # words that do not depend on who asks


def runs_this_machine() -> bool:
    """There is a systemd to ask; sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def properties(unit: str, *names: str, of_user: bool = False) -> Mapping[str, str]:
    """These properties of one unit, of the system's manager or of this user's; "" for one that has no value, lines for
    one that has several.

    Raises UnitUnavailable where no systemd answers.
    """
    import subprocess

    words = [*["--user"] * of_user, "show", "--no-pager", f"--property={','.join(names)}", "--", unit]
    command, environment = [program("systemctl"), *words], {**os.environ, **search_path(), **PLAIN}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, env=environment, check=False
        )
    except FileNotFoundError:
        raise UnitUnavailable("There is no systemctl here to ask.") from None
    except subprocess.TimeoutExpired:
        raise UnitUnavailable(f"systemctl did not answer in {_SECONDS:g} s; does systemd hang?") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UnitUnavailable(f"systemctl cannot say how {unit} is: {said[-1] if said else 'it did not say why'}")
    found = dict[str, list[str]]()
    for line in done.stdout[:_MOST_BYTES].decode(errors="replace").split("\n"):
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return {name: "\n".join(found.get(name, [])) for name in names}
