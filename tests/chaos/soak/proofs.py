"""The test of the test: what the judge says of a service that breaks its promises."""

from __future__ import annotations

import fcntl
import re
import subprocess
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.chaos.kill.cases import Outcome
from tests.chaos.kill.hub import Broken
from tests.chaos.soak.client import Reply
from tests.chaos.soak.instance import Release
from tests.chaos.soak.judge import Settled
from tests.chaos.soak.rounds import Player, Soak

GOOD = Release("good", "exclusive", 0.0, {})
PATIENCE_SECONDS = 3.0


class Proof(NamedTuple):
    """Of one lie, one leftover, or one too many."""

    name: str
    systemd: bool = True

    def __str__(self) -> str:
        return self.name


def run(proof: Proof) -> Outcome:
    """It holds if the judge complains, in these words."""
    player = Player(Soak("class", "exclusive", 1, 0, 1))
    lie, words = PROOFS[proof.name]
    result, reason = "broken", "the judge has not noticed"
    try:
        player.start()
        player.judge.patience_seconds = PATIENCE_SECONDS
        lie(player)
    except Broken as broken:
        result, reason = "held" if re.search(words, str(broken)) else "broken", str(broken)
    except Exception:
        reason = traceback.format_exc()
    story = [*player.story, *player.instance.last_words()] if result == "broken" else []
    player.close()
    return Outcome(proof.name, result, reason, story, [], [])


def two_at_work(player: Player) -> None:
    """Somebody else works, too."""
    with (player.instance.place / "active/1.0.exclusive.1").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        reload(player, verdict=0)


def said_to_be_done(player: Player) -> None:
    """A reload that never was."""
    player.judge.check(GOOD, player.settled.release + 1, 0, player.settled, player.settled)


def said_to_have_failed(player: Player) -> None:
    """A reload that went well."""
    reload(player, verdict=1, release=GOOD._replace(kind="serve"))


def failed_for_nothing(player: Player) -> None:
    """Good code that was not taken."""
    player.judge.check(GOOD, player.settled.release, 1, player.settled, player.settled)


def process_left(player: Player) -> None:
    """One that nobody knows of."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as stranger:
        (player.instance.cgroup / "cgroup.procs").write_text(str(stranger.pid))
        try:
            player.judge.settle(may_need_help=False)
        finally:
            stranger.kill()


def file_left(player: Player) -> None:
    """One in the run directory."""
    (player.instance.run_directory / "left").touch()
    reload(player, verdict=0)


def descriptors_left(player: Player) -> None:
    """More than a generation before needed."""
    player.judge.descriptors[player.settled.workers] = 3
    player.judge.settle(may_need_help=False)


def client_lost(player: Player) -> None:
    """An answer that did not come."""
    player.client.fail(Reply(0.0, failure="dropped"))
    reload(player, verdict=0)


def client_refused(player: Player) -> None:
    """A moment when nobody listened, though only a worker was killed."""
    player.faults.done.append("kill")
    player.client.fail(Reply(0.0, failure="refused"))
    reload(player, verdict=0)


def reload(player: Player, *, verdict: int, release: Release = GOOD) -> Settled:
    """A good one, of which this verdict is told; then all is checked."""
    before, number = player.settled, player.instance.deploy(release)
    player.instance.cure()
    call = player.instance.begin("reload")
    assert call.wait(60) == 0
    after = player.judge.settle(may_need_help=False)
    player.judge.check(release, number, verdict, before, after)
    return after


PROOFS: Mapping[str, tuple[Callable[[Player], object], str]] = {
    "two at work": (two_at_work, "Two generations worked at a time: exclusive release 2"),
    "said to be done": (said_to_be_done, "is said to be done, and release 1 answers"),
    "said to have failed": (said_to_have_failed, "is said to have failed, and its successor"),
    "failed for nothing": (failed_for_nothing, "The reload to good code ended with status 1"),
    "process left": (process_left, "there is somebody else"),
    "file left": (file_left, r"one address: .*\['left'\]"),
    "descriptors left": (descriptors_left, "one before had 3"),
    "client lost": (client_lost, "Clients lost something, though nobody was harmed"),
    "client refused": (client_refused, "Clients were refused, though the service was not stopped"),
}
