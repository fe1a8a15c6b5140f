"""The unit of a process, according to its control group."""

import re

# as systemd has it; a "-" at the beginning could be read as an option
_UNIT_NAME = r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.service"


def unit_of(pid: int) -> tuple[str, bool]:
    """Return the service unit of a process, and whether a user's manager runs it; "" if the process is in none.

    A service with Delegate= may give any names to the groups below its own, so only a valid name of a unit counts.
    """
    try:
        with open(f"/proc/{pid}/cgroup") as lines:
            hierarchies = [line.rstrip("\n").split(":", 2) for line in lines]
    except OSError:
        return "", False
    paths = [path for _, controllers, path in hierarchies if controllers in ("", "name=systemd")]
    for path in sorted(paths, key=len, reverse=True):
        units = [part for part in path.split("/") if part.endswith((".service", ".scope"))]
        if units and re.fullmatch(_UNIT_NAME, units[-1]) and not units[-1].startswith("user@"):
            return units[-1], any(unit.startswith("user@") for unit in units)
    return "", False
