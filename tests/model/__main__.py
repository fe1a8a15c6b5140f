"""`python -m tests.model [--full]` walks the takeover table and says what it saw; exits 1 if a promise is broken.
`python -m tests.model --mutations` spoils every rule of it in turn; exits 1 if one is caught, or not, against what
`unseen.py` says.
"""

import argparse
import sys
from collections.abc import Sequence

from .unseen import THOROUGH, UNSEEN, breaks, every_single
from .world import World
from .worlds import FULL, STANDARD, Walked, never_met, total_line, walk_all


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="up to three crashes, or two and a hang: minutes, not seconds"
    )
    parser.add_argument("--mutations", action="store_true", help="walk a spoilt table instead, each in turn: minutes")
    arguments = parser.parse_args()
    return mutate() if arguments.mutations else walk_worlds(FULL if arguments.full else STANDARD)


def mutate() -> int:
    """Spoil each rule, and see whether the walk sees it."""
    unseen = {single for singles in UNSEEN.values() for single in singles}
    wrong = 0
    for single in every_single():
        broken = breaks(single, THOROUGH)
        wrong += bool(broken) == (single in unseen)
        surprise = "" if bool(broken) != (single in unseen) else "  AGAINST unseen.py"
        print(f"{single!s:56} {broken or 'unseen'}{surprise}", flush=True)
    print(f"{len(unseen)} of {len(list(every_single()))} are unseen; {wrong} against what unseen.py says.")
    return 1 if wrong else 0


def walk_worlds(worlds: Sequence[World]) -> int:
    """Walk the real table."""
    walks: list[Walked] = []
    for walked in walk_all(worlds):
        walks.append(walked)
        print(walked.line(), flush=True)
        if walked.outcome.broken:
            print(walked.outcome.report())
    print(total_line(walks))
    rules, ignored = never_met(walks)
    print(f"Rules never reached: {', '.join(rules) or 'none'}.")
    print(f"Ignored pairs never seen: {', '.join(ignored) or 'none'}.")
    return 1 if any(walked.outcome.broken for walked in walks) or rules or ignored else 0


if __name__ == "__main__":
    sys.exit(main())
