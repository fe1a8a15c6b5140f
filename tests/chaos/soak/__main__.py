"""Run rounds of random faults, and print those that broke a promise, each with what repeats it.

python -m tests.chaos.soak --rounds 10000 --seed 1
python -m tests.chaos.soak --replay 'class overlap 1017/9'     this round alone, until it breaks again
python -m tests.chaos.soak --reloads 1000                      in a row, of each kind of service; nothing goes wrong
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from queue import Queue

from tests.chaos.kill import crew
from tests.chaos.kill.cases import Outcome
from tests.chaos.soak.reloads import Reloads
from tests.chaos.soak.rounds import KINDS, Soak, plan
from tests.support.machine import Machine

MACHINES = 2
RUNNERS = 6  # in each machine; a round mostly waits
TRIES = 30
Job = Soak | Reloads


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: all promises held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", metavar="N", type=int, default=300, help="how many (%(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, help="another each time, if none is given")
    parser.add_argument("--replay", metavar="ROUND", help="repeat this one until it breaks again")
    parser.add_argument("--tries", metavar="N", type=int, default=TRIES, help="of --replay (%(default)s)")
    parser.add_argument("--reloads", metavar="N", type=int, help="so many in a row, of each kind of service")
    parser.add_argument("--machines", metavar="N", type=int, default=MACHINES, help="at a time (%(default)s)")
    parser.add_argument("--runners", metavar="N", type=int, default=RUNNERS, help="in each of them (%(default)s)")
    parsed = parser.parse_args(arguments)
    if parsed.replay:
        return report([named(parsed.replay)] * parsed.tries, 1, parsed.runners, first_only=True)
    if parsed.reloads:
        jobs = [Reloads(kind, handover, parsed.reloads) for kind, handover in KINDS if handover != "mixed"]
        return report(jobs, 1, parsed.runners)
    seed = random.randrange(10**6) if parsed.seed is None else parsed.seed
    print(f"seed {seed}: python -m tests.chaos.soak --rounds {parsed.rounds} --seed {seed}", flush=True)
    return report(plan(seed, parsed.rounds), parsed.machines, parsed.runners)


def named(text: str) -> Soak:
    """The one round that is called so."""
    kind, handover, place = text.split()
    seed, first = place.split("/")
    return Soak(kind, handover, int(seed), int(first), 1)


def report(jobs: Sequence[Job], machines: int, runners: int, *, first_only: bool = False) -> int:
    """Play them, and say how it went; 1 if a promise was broken."""
    began, broken = time.monotonic(), 0
    for number, outcome in enumerate(spread(jobs, machines, runners), 1):
        if outcome.result == "broken":
            broken += 1
            print("\n".join((f"\nBROKEN {outcome.case}: {outcome.reason}", *outcome.story)))
            if "/" in outcome.case:
                print(f"again: python -m tests.chaos.soak --replay '{outcome.case}'", flush=True)
            if first_only:
                return 1
        done = f"{number} of {len(jobs)} done, {broken} broken, {(time.monotonic() - began) / 60:.1f} min"
        print(f"{done}: {outcome.case}: {outcome.reason[:160]}", flush=True)
    return 1 if broken else 0


def spread(jobs: Sequence[Job], machines: int, runners: int) -> Iterator[Outcome]:
    """Play them in so many machines; outcomes as they come."""
    outcomes: Queue[Outcome | BaseException | None] = Queue()
    shares = [share for index in range(machines) if (share := jobs[index::machines])]

    def play(share: Sequence[Job]) -> None:
        try:
            with Machine() as machine:
                for outcome in crew.run_inside(machine, share, runners):
                    outcomes.put(outcome)
            outcomes.put(None)
        except BaseException as error:
            outcomes.put(error)

    threads = [threading.Thread(target=play, args=[share], daemon=True) for share in shares]
    for thread in threads:
        thread.start()
    playing = len(threads)
    while playing:
        outcome = outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            playing -= 1
        else:
            yield outcome


if __name__ == "__main__":
    sys.exit(main())
