"""Kill it, as much as you like: `python -m tests.chaos.kill` (see the package's text).

    python -m tests.chaos.kill --all                       the complete matrix, with systemd and without
    python -m tests.chaos.kill --rounds 500 --seed 7       so many random rounds, with and without
    python -m tests.chaos.kill --only 'YIELDING+DEADLINE'  the cases whose name contains this
    python -m tests.chaos.kill --only 'plain draining'        those of one kind: exclusive, overlap, draining

--plain leaves out what needs to boot a systemd, --systemd the rest. Exit status 0: all promises held.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence

from tests.chaos.kill import crew
from tests.chaos.kill.cases import KINDS, Case, Outcome, possible, survey
from tests.chaos.kill.crew import RUNNERS, Job
from tests.chaos.kill.rounds import chains


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kill", description=__doc__.partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="the complete matrix")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases of the matrix whose name contains this")
    parser.add_argument("--rounds", metavar="N", type=int, default=0, help="random rounds, shared among the runners")
    parser.add_argument("--seed", metavar="N", type=int, help="of the random rounds; default: another each time")
    parser.add_argument("--plain", action="store_true", help="without systemd only")
    parser.add_argument("--systemd", action="store_true", help="with systemd only")
    parser.add_argument("--runners", metavar="N", type=int, default=RUNNERS, help="cases at a time (%(default)s)")
    parser.add_argument("--inside", metavar="N", type=int, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.inside:
        crew.be_inside(sys.stdin, parsed.inside)
        return 0
    seed = random.randrange(10**6) if parsed.seed is None else parsed.seed
    broken = 0
    for systemd in (False, True):
        if parsed.plain if systemd else parsed.systemd:
            continue
        where = "with systemd" if systemd else "without systemd"
        if parsed.all or parsed.only:
            places = [
                place
                for kind in KINDS
                for place in survey(systemd, kind)
                if any(parsed.only in str(case) for case in possible(place))
            ]
            reached: list[Outcome] = []
            broken += report(noted(go(places, parsed.runners), reached), f"{where}, {len(places)} places")
            found = [Case(*fields) for outcome in reached for fields in outcome.cases]  # type: ignore[arg-type]
            jobs: list[Job] = [case for case in found if parsed.only in str(case)]
            broken += report(go(jobs, parsed.runners), f"{where}, {len(jobs)} cases")
        if parsed.rounds:
            print(f"seed {seed}", flush=True)
            chained = chains(systemd, seed, parsed.rounds, parsed.runners)
            broken += report(go(chained, parsed.runners), f"{where}, {parsed.rounds} rounds in {len(chained)} services")
    return 1 if broken else 0


def go(jobs: Sequence[Job], runners: int) -> Iterator[Outcome]:
    """All of one kind, here or in a machine."""
    if not any(job.systemd for job in jobs):
        yield from crew.run_here(jobs, runners)
        return
    from tests.support.machine import Machine

    with Machine() as machine:
        yield from crew.run_inside(machine, jobs, runners)


def noted(outcomes: Iterator[Outcome], notes: list[Outcome]) -> Iterator[Outcome]:
    """The same, and all are in the notes."""
    for outcome in outcomes:
        notes.append(outcome)
        yield outcome


def report(outcomes: Iterator[Outcome], what: str) -> int:
    """Say how it went; how many were broken."""
    began, counts = time.monotonic(), {"held": 0, "absent": 0, "broken": 0}
    for outcome in outcomes:
        counts[outcome.result] += 1
        if outcome.result == "broken":
            print("\n".join((f"\nBROKEN {outcome.case}: {outcome.reason}", *outcome.story)), flush=True)
        elif outcome.result == "absent":
            print(f"nobody to harm: {outcome.case}", flush=True)
    words = ", ".join(f"{number} {result}" for result, number in counts.items())
    print(f"{what}: {words} in {time.monotonic() - began:.0f} s", flush=True)
    return counts["broken"]


if __name__ == "__main__":
    sys.exit(main())
