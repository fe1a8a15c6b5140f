"""`python -m tests.demo`: tell the story; the exit status says whether it was true.

0 all of it was; 1 a claim turned out false, which is named; 69 it cannot be told on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

from tests.demo.ground import Ground
from tests.demo.in_foreground import foreground
from tests.demo.lines import NoSuchLine
from tests.demo.narrator import DIM, RED, ClaimFailed, Narrator
from tests.demo.story import SABOTAGE, Story, releases
from tests.demo.with_systemd import SystemdGround
from tests.ground.guarded import MachineError, MachineUnavailable
from tests.ground.journal import NotInJournal
from tests.ground.machine import Machine

CLAIM_FAILED, UNAVAILABLE = 1, 69


class Interrupted(Exception):
    """Somebody sent us a signal to end."""


def interrupted(number: int, _frame: object) -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)  # the way out is not to be interrupted in turn
    raise Interrupted(number)


@contextlib.contextmanager
def chosen_ground(narrator: Narrator) -> Iterator[Ground]:
    """With systemd where root asks for it, else without; said in a sentence."""
    if os.environ.get("SYSTEMD") != "no" and os.geteuid() == 0:
        began = time.monotonic()
        with Machine() as machine:
            seconds = time.monotonic() - began
            narrator.say(
                f"A throw-away machine with a real systemd ({machine.systemd_version}) is up, after {seconds:.1f} s. "
                "A client in there asks the example service for numbers, all the time."
            )
            yield SystemdGround(machine, narrator)
        return
    why = "as SYSTEMD=no asks for" if os.environ.get("SYSTEMD") == "no" else "since booting one takes root"
    with foreground(narrator) as ground:
        narrator.say(
            f"Without systemd, {why}: the example service runs in the foreground of D={ground.home}, "
            "and a client asks it for numbers, all the time."
        )
        yield ground


def tell(narrator: Narrator, sabotage: str | None) -> int:
    """Tell the story; the exit status."""
    with chosen_ground(narrator) as ground:
        ground.install(releases(sabotage))
        with ground.talk() as talk:
            try:
                Story(ground, narrator, talk).tell()
            except (ClaimFailed, NoSuchLine, NotInJournal, ValueError) as error:
                print()
                narrator.say(f"NOT TRUE: {error}" if isinstance(error, ClaimFailed) else str(error), colour=RED)
                print(ground.last_words())
                return CLAIM_FAILED
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description="Show what sdsupervise does.")
    parser.add_argument("--sabotage", choices=SABOTAGE, help=argparse.SUPPRESS)
    sabotage = parser.parse_args().sabotage
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    narrator = Narrator()
    began = time.monotonic()
    try:
        status = tell(narrator, sabotage)
    except MachineUnavailable as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    except MachineError as error:
        print(f"{error}\nThe same story without systemd: make demo SYSTEMD=no", file=sys.stderr)
        return UNAVAILABLE
    except Interrupted as error:
        print("\nInterrupted; nothing is left behind.", file=sys.stderr)
        return 128 + int(error.args[0])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody listens: not even at the interpreter's last flush
        return CLAIM_FAILED
    narrator.say(f"It took {time.monotonic() - began:.1f} s, and nothing of it is left.", colour=DIM)
    return status


if __name__ == "__main__":
    sys.exit(main())
