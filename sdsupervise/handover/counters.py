"""What has happened since the unit was started, counted, for monitoring: over a reload no count goes down.

A supervisor counts what it sees. While it raises a successor it tells it all its counts (message "counters": at the
beginning, whenever one changes, and with the verdict), and the successor adds its own to them. So they are right
whoever serves in the end, and whoever dies on the way: a successor that fails takes along only what it had counted of
itself, one that takes over from a dead predecessor has what that one knew. One that is born by an older release, which
tells none, begins at 0, as a restarted unit does; for whoever reads counters that is nothing new.

    reloads         by verdict: done, failed, refused       reload_seconds   by verdict, in all
    phases          of reloads, by state of the predecessor phase_seconds    by state, in all
    crashes         of workers, by cause                    starts           of workers
    crash_loops     those that began
"""

from collections.abc import Mapping

Counts = dict[str, dict[str, float]]

_ALL = "all"  # what is counted without distinction


class Counters:
    """One supervisor's."""

    def __init__(self) -> None:
        self._own: Counts = {}
        self._before: Counts = {}  # what the predecessor told

    def count(self, what: str, which: str = _ALL, *, amount: float = 1) -> None:
        """It has happened again."""
        counts = self._own.setdefault(what, {})
        counts[which] = counts.get(which, 0) + amount

    def count_reload(self, facts: Mapping[str, object]) -> None:
        """It has its verdict; see Reload.facts."""
        verdict, seconds, phases = str(facts["verdict"]), facts["seconds"], facts["phases"]
        self.count("reloads", verdict)
        if verdict != "refused" and isinstance(seconds, float) and isinstance(phases, Mapping):
            self.count("reload_seconds", verdict, amount=seconds)
            for phase, took in phases.items():
                self.count("phases", phase)
                self.count("phase_seconds", phase, amount=took)

    def inherit(self, told: Counts) -> None:
        """What the predecessor tells, which is all it told before and more."""
        self._before = told

    def facts(self) -> Counts:
        """All of them, as Status shows them: what is counted, and which of it."""
        sums = {what: dict(counts) for what, counts in self._before.items()}
        for what, counts in self._own.items():
            known = sums.setdefault(what, {})
            for which, number in counts.items():
                known[which] = round(known.get(which, 0) + number, 3)
        return sums
