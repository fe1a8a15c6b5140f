"""Which unit a process belongs to, as its control group says."""

import re

_UNIT_NAME = r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.service"  # as systemd has it; "-" first could be an option


def unit_of(pid: int) -> tuple[str, bool]:
    """The service unit that a process belongs to, and whether it is one of a user's manager; "" if it is in none.

    With Delegate= a service names what is below its own. What is no name of a unit is not shown, and named to nobody.
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
