"""Counters for monitoring: what happened since the unit was started. A reload does not reset them.

A supervisor counts what it sees. While it has a successor it sends all its counts to it (message "counters": first,
at each change, and with the verdict). The successor adds its own counts. So the sums are right whichever of the two
serves in the end or dies. A failed successor takes only its own counts with it. A successor of a dead predecessor has
the last counts that it sent. A predecessor of an earlier release sends none: its successor begins at 0, as after a
restart of the unit.

    reloads         by verdict: done, failed, refused       reload_seconds   sum by verdict
    phases          of reloads, by state of the predecessor phase_seconds    sum by state
    crashes         of workers, by cause                    starts           of workers
    crash_loops     that began
"""

from collections.abc import Mapping

Counts = dict[str, dict[str, float]]

_ALL = "all"  # the key of a counter without distinction


class Counters:
    """The counters of one supervisor."""

    def __init__(self) -> None:
        self._own: Counts = {}
        self._before: Counts = {}  # the last counts from the predecessor

    def count(self, what: str, which: str = _ALL, *, amount: float = 1) -> None:
        """Add to one counter."""
        counts = self._own.setdefault(what, {})
        counts[which] = counts.get(which, 0) + amount

    def count_reload(self, facts: Mapping[str, object]) -> None:
        """Count a reload that has its verdict; see Reload.facts."""
        verdict, seconds, phases = str(facts["verdict"]), facts["seconds"], facts["phases"]
        self.count("reloads", verdict)
        if verdict != "refused" and isinstance(seconds, float) and isinstance(phases, Mapping):
            self.count("reload_seconds", verdict, amount=seconds)
            for phase, took in phases.items():
                self.count("phases", phase)
                self.count("phase_seconds", phase, amount=took)

    def inherit(self, counts: Counts) -> None:
        """Replace the predecessor's counts by newer ones."""
        self._before = counts

    def facts(self) -> Counts:
        """All sums, as Status shows them: counter name to key to number."""
        sums = {what: dict(counts) for what, counts in self._before.items()}
        for what, counts in self._own.items():
            known = sums.setdefault(what, {})
            for which, number in counts.items():
                known[which] = round(known.get(which, 0) + number, 3)
        return sums
