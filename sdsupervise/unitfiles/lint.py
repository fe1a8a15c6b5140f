"""What in a unit that runs sdsupervise will not work, and why; each rule was seen to bite on a real systemd.

A finding is an error when something does not work at all, or tells a lie; a warning when it works until something else
goes wrong.
"""

from ..settings.settings import Settings
from . import words
from .rules import RULES
from .subject import ERROR, Finding, Host, Subject, option, reloads, reloads_by_us, runs_us, settings_in
from .text import UnitText

_UNKNOWN = Host()


def lint(
    unit: UnitText, settings: Settings | None = None, host: Host = _UNKNOWN, *, user: str | None = None
) -> list[Finding]:
    """What is wrong with a unit, the worst first; [] = nothing.

    The settings are those that its service will run by, and `user` whom it is to become, where they are known; without
    them its ExecStart= says some.
    """
    starts = [command for value in unit.values("ExecStart") for command in words.commands(value)]
    if not any(map(runs_us, starts)) and not any(map(reloads_by_us, reloads(unit))):
        return [
            Finding("ExecStart", "it does not run sdsupervise", f"try sdsupervise unit wrap {unit.name}"),
        ]
    if len(starts) != 1:
        return [
            Finding(
                "ExecStart", f"it has {len(starts)} commands, but a supervisor runs only one", "leave one ExecStart="
            )
        ]
    users = [user] if user else option(starts[0], "--user")
    subject = Subject(unit, starts[0], settings or settings_in(starts[0]), host, (users or [""])[-1])
    found = [finding for rule in RULES for finding in rule(subject)]
    return sorted(found, key=lambda finding: finding.severity != ERROR)
