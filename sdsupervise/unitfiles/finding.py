"""The form of what lint() and wrap() find in a unit."""

from typing import NamedTuple

ERROR, WARNING = "error", "warning"


class Finding(NamedTuple):
    """One problem of a unit."""

    key: str  # the setting, without "="
    problem: str  # the consequence; a clause without a full stop
    fix: str  # what to write or do; a clause without a full stop
    severity: str = ERROR

    def __str__(self) -> str:
        return f"{self.severity}: {self.problem}; {self.fix}"


class Need(NamedTuple):
    """Something of a unit with which a supervisor cannot work, and what helps."""

    key: str  # the setting, without "="
    problem: str  # the consequence; a clause without a full stop
    fix: str  # what to write or do; a clause without a full stop
    lines: tuple[str, ...] = ()  # of [Service], which help; () if the unit must be refused
    note: str = ""  # what these lines change
    severity: str = ERROR

    @property
    def finding(self) -> Finding:
        """What lint() says of it."""
        return Finding(self.key, self.problem, self.fix, self.severity)
