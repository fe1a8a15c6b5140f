"""`python -m tests.walk [--full]` walks the takeover table and says what it saw; exits 1 if a promise is broken."""

import argparse
import sys

from .worlds import FULL, STANDARD, Walked, never_met, total_line, walk_all


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.walk", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="up to three crashes, or two and a hang: minutes, not seconds"
    )
    walks: list[Walked] = []
    for walked in walk_all(FULL if parser.parse_args().full else STANDARD):
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
