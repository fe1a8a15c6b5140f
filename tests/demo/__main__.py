"""`python -m tests.demo`: tell the stories; the exit status says whether they were true.

0 all of them was; 1 a claim turned out false, which is named; 69 it cannot be told on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from tests.demo import counter_story, web_story
from tests.demo.ground import Ground, Service
from tests.demo.in_foreground import ForegroundGround, foreground
from tests.demo.lines import NoSuchLine
from tests.demo.narrator import DIM, GREEN, RED, ClaimFailed, Narrator
from tests.demo.story import Story
from tests.demo.with_systemd import SystemdGround
from tests.support.guarded import MachineError, MachineUnavailable
from tests.support.journal import NotInJournal
from tests.support.machine import Machine

CLAIM_FAILED, UNAVAILABLE = 1, 69
STORIES: dict[str, type[Story]] = {"counter": counter_story.CounterStory, "web": web_story.WebStory}
SABOTAGE = (*counter_story.SABOTAGE, *web_story.SABOTAGE, web_story.SABOTAGE_OF_UNIT)


class Interrupted(Exception):
    """Somebody sent us a signal to end."""


def interrupted(number: int, frame: FrameType | None) -> None:
    inner = frame
    while inner is not None:
        if inner.f_code.co_name == "__del__":  # from which Python would not pass the exception on
            signal.signal(signal.SIGALRM, lambda _, later: interrupted(number, later))
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            return
        inner = inner.f_back
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)  # the way out is not to be interrupted in turn
    raise Interrupted(number)


@contextlib.contextmanager
def grounds(narrator: Narrator) -> Iterator[Callable[[Service], Ground]]:
    """With systemd where root asks for it, else without; said in a sentence."""
    if os.environ.get("SYSTEMD") != "no" and os.geteuid() == 0:
        began = time.monotonic()
        with Machine() as machine:
            seconds = time.monotonic() - began
            narrator.say(
                f"A throw-away machine with a real systemd ({machine.systemd_version}) is up, after {seconds:.1f} s."
            )
            yield lambda service: SystemdGround(machine, narrator, service)
        return
    why = "as SYSTEMD=no asks for" if os.environ.get("SYSTEMD") == "no" else "since booting one takes root"
    with foreground() as directory:
        narrator.say(f"Without systemd, {why}: the examples run in the foreground of D={directory}.")
        yield lambda service: ForegroundGround(directory, narrator, service)


def tell(narrator: Narrator, only: str | None, sabotage: str) -> int:
    """Tell the stories; the exit status."""
    told: list[Story] = []
    with grounds(narrator) as ground_of:
        for name in [only] if only else STORIES:
            story = STORIES[name](ground_of, narrator)
            print()
            narrator.say(story.introduction)
            told.append(story)
            try:
                story.tell(sabotage)
            except (ClaimFailed, NoSuchLine, NotInJournal, ValueError) as error:
                print()
                narrator.say(f"NOT TRUE: {error}" if isinstance(error, ClaimFailed) else str(error), colour=RED)
                print(story.ground.last_words())
                return CLAIM_FAILED
    sentences = [story.sum_up() for story in told]
    print()
    narrator.say(f"{' '.join(sentences)} What you read was checked: {narrator.claims} claims, all true.", colour=GREEN)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description="Show what sdsupervise does.")
    parser.add_argument("--sabotage", choices=SABOTAGE, default="", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=STORIES, help="tell this story alone")
    parsed = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    narrator = Narrator()
    began = time.monotonic()
    try:
        status = tell(narrator, parsed.only, parsed.sabotage)
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
