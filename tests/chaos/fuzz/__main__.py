"""`python -m tests.chaos.fuzz [N]` feeds N inputs to each surface, and says what it found; exits 1 if it found any."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time

from .surface import fuzz
from .surfaces import SURFACES


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=__doc__)
    parser.add_argument("number", nargs="?", type=int, default=20_000, metavar="N")
    parser.add_argument("--seed", type=int, help="of the inputs; else one by chance, which is printed")
    parser.add_argument("--surface", choices=[surface.name for surface in SURFACES], help="this one alone")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this one input alone")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    logging.disable(logging.CRITICAL)
    numbers = range(arguments.number) if arguments.only is None else range(arguments.only, arguments.only + 1)
    print(f"seed {seed}", flush=True)
    finds = 0
    for surface in SURFACES:
        if arguments.surface in (None, surface.name):
            began = time.monotonic()
            for find in fuzz(surface, seed, numbers):
                finds += 1
                print(find, flush=True)
            print(f"{surface.name}: {len(numbers)} inputs in {time.monotonic() - began:.1f} s", flush=True)
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
