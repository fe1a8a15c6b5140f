"""The demo shows what it says it shows, would say so if it did not, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.demo import counter_story, web_story

LIMIT_SECONDS = 120
COMMAND = (sys.executable, "-m", "tests.demo")


class Stage:
    """Runs demos, and looks for what they left: files, mounts, processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex

    def popen(self, *command: str, systemd: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "TMPDIR": str(self.directory), "SYSTEMD": systemd, "STAGE": self.mark}
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )

    def run(self, *command: str, systemd: str) -> tuple[int, str]:
        with self.popen(*command, systemd=systemd) as demo:
            output, _ = demo.communicate(timeout=LIMIT_SECONDS)
        return demo.returncode, output

    def leftovers(self) -> list[str]:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        files = [str(path) for path in self.directory.iterdir()]
        return files + [mount for mount in mounts if str(self.directory) in mount] + list(self.processes())

    def processes(self) -> Iterator[str]:
        for process in psutil.process_iter():
            try:
                if process.environ().get("STAGE") == self.mark:
                    yield str(process)
            except psutil.Error:
                continue


@pytest.fixture
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="stage-") as directory:  # pytest's own are too long for a socket's path
        yield Stage(Path(directory))


@pytest.fixture(params=["yes", "no"])
def systemd(request: pytest.FixtureRequest) -> str:
    if request.param == "yes" and os.environ.get("SYSTEMD") == "no":
        pytest.skip("SYSTEMD=no")
    return str(request.param)


def test_the_demo_is_true_and_leaves_nothing(stage: Stage, systemd: str) -> None:
    """Both stories come to their end, every claim held, and nothing is left."""
    status, output = stage.run(*COMMAND, systemd=systemd)
    assert status == 0, output
    words = " ".join(output.split())
    assert "numbers, none twice" in words
    assert "requests: 0 refused, 0 timed out, 0 wrong" in words
    assert words.count("No module named 'requsts'") == 2
    assert ("kill -9 of supervisor" in words) == (systemd == "yes")
    assert "\033" not in output  # colours are for terminals
    assert stage.leftovers() == []


@pytest.mark.parametrize(
    ("story", "sabotage", "claim"),
    [
        ("counter", "new-code-is-broken", "the reload to release 2 succeeds"),
        ("counter", "broken-code-works", "the reload to broken code fails"),
        ("counter", "numbers-repeat", "no number came twice"),
        ("web", "answers-are-wrong", "no request fails, but"),
        ("web", "answers-are-cut", "no request fails, but"),
        ("web", "canary-is-good", "the canary found bad fails"),
    ],
)
def test_the_demo_notices_what_is_not_true(stage: Stage, story: str, sabotage: str, claim: str) -> None:
    """Where the service does not do what the story says, the demo names the claim, exits 1, and still cleans up."""
    assert sabotage in {"counter": counter_story, "web": web_story}[story].SABOTAGE
    status, output = stage.run(*COMMAND, "--only", story, "--sabotage", sabotage, systemd="no")
    assert status == 1, output
    assert f"NOT TRUE: {claim}" in output
    assert stage.leftovers() == []


def test_the_demo_with_systemd_notices_it_too(stage: Stage, systemd: str) -> None:
    """The exit status of `systemctl reload` is looked at, not supposed."""
    status, output = stage.run(*COMMAND, "--only", "counter", "--sabotage", "new-code-is-broken", systemd=systemd)
    assert status == 1, output
    assert "NOT TRUE: the reload to release 2 succeeds" in output


@pytest.mark.skipif(os.environ.get("SYSTEMD") == "no", reason="SYSTEMD=no")
def test_the_demo_notices_a_lost_listener(stage: Stage) -> None:
    """Where systemd does not keep the listener, killing the supervisor has clients refused, and the demo says so."""
    status, output = stage.run(*COMMAND, "--only", "web", "--sabotage", web_story.SABOTAGE_OF_UNIT, systemd="yes")
    assert status == 1, output
    assert "refused: Connection refused" in " ".join(output.split())
    assert stage.leftovers() == []


@pytest.mark.parametrize(("story", "number"), [("counter", signal.SIGINT), ("web", signal.SIGTERM)])
def test_an_interrupted_demo_leaves_nothing(stage: Stage, systemd: str, story: str, number: signal.Signals) -> None:
    """Ctrl-C in the middle of a story ends it and all it started."""
    with stage.popen(*COMMAND, "--only", story, systemd=systemd) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("3  "):
                break
        demo.send_signal(number)
        rest, _ = demo.communicate(timeout=LIMIT_SECONDS)
    assert demo.returncode == 128 + number, rest
    assert stage.leftovers() == []


def test_without_root_the_demo_does_without_systemd(stage: Stage) -> None:
    """Who is not root gets the story without systemd, and is told why."""
    not_root = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    status, output = stage.run(*not_root, *COMMAND, "--only", "counter", systemd="yes")
    assert status == 0, output
    assert "Without systemd, since booting one takes root" in " ".join(output.split())
    assert stage.leftovers() == []
