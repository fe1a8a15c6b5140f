"""Overlap: the old workers serve until the new ones are known to, and then drain, beside further reloads and stops."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sdsupervise.control.client import Client
from tests.support.harness import Breakpoint, Ground, service
from tests.support.running import LIMIT_SECONDS, wait_gone

# Reports that it drains when it is told to stop, and leaves when the test has opened its FIFO.
SHARED = """
handover = "overlap"
takeover_timeout = 2.0

def supervised_process(self):
    report("warm", release=self.release)
    self.ready_to_take_over()
    report("serves", release=self.release)
    self.serve()

def supervised_shutdown(self):
    report("drains", release=self.release)
    if os.path.exists(f"{os.environ['GROUND']}/drain-{self.release}"):
        open(f"{os.environ['GROUND']}/drain-{self.release}").read()
    report("drained", release=self.release)
"""


def deploy(ground: Ground, release: int, body: str = "", *, drains: bool = False, before: str = "") -> None:
    """A release of the service; one that drains does so until `let_drain`."""
    if drains:
        os.mkfifo(ground.directory / f"drain-{release}")
    ground.deploy(release, service(SHARED + body, before=before))


def let_drain(ground: Ground, release: int) -> None:
    """The worker of this release may leave; it is draining."""
    fifo = ground.directory / f"drain-{release}"
    os.close(os.open(fifo, os.O_WRONLY))


def reload(ground: Ground, release: int) -> None:
    """A good one; the new code serves."""
    done = ground.reload()
    assert done.returncode == 0, done
    ground.expect("serves", release=release)


def draining(ground: Ground) -> list[int]:
    """The older generations that the main supervisor still sees."""
    draining = ground.status()["draining"]
    assert isinstance(draining, list)
    return [draining["generation"] for draining in draining]


def test_the_old_worker_serves_until_the_commit(ground: Ground) -> None:
    """At the commit both serve; the old worker is told to stop after it, and never before."""
    deploy(ground, 1)
    hold = Breakpoint(ground, "COMMITTING+BARRIER_RETURNED")
    running = ground.serving(environment=hold.environment)
    deploy(ground, 2)
    caller = ground.reload_process()
    hold.wait()
    ground.expect("serves", release=2)
    assert ground.seen("drains") == []
    hold.release()
    assert caller.wait() == 0
    ground.expect("drained", release=1)
    assert running.wait() == 0
    assert [report.details["release"] for report in ground.seen("drains")] == ["1"]


def test_a_caller_follows_the_service(ground: Ground) -> None:
    """Whoever had connected before a reload is answered by the new generation, also while the old one still drains."""
    deploy(ground, 1, drains=True)
    running = ground.serving()
    caller = Client.connect(ground.control, timeout_seconds=LIMIT_SECONDS)
    assert caller.ask("Status").parameters["generation"] == 1
    deploy(ground, 2)
    reload(ground, 2)
    assert caller.ask("Status").parameters["generation"] == 2
    assert running.alive
    let_drain(ground, 1)
    assert running.wait() == 0
    assert caller.ask("Status").parameters["generation"] == 2
    caller.close()


@pytest.mark.parametrize("place", ["WARMING+WORKER_READY", "CLAIMING+LOCK_GAINED/1", "CLAIMING+LOCK_GAINED/3"])
def test_a_rollback_stops_nothing(ground: Ground, place: str) -> None:
    """A successor that hangs, before or after it has the lock, is killed; the old worker was serving all the time."""
    hold = Breakpoint(ground, place)
    deploy(ground, 1)
    running = ground.serving()
    workers = ground.worker_pids()
    limit = "reload_timeout = 5.0" if place.startswith("WARMING") else ""
    deploy(ground, 2, limit, before=f"os.environ.update({hold.environment})")
    failed = ground.reload()
    assert failed.returncode == 1, failed
    assert "its worker was never stopped" in failed.stderr
    wait_gone(hold.wait())
    assert all(report.details["release"] == "2" for report in ground.seen("drains"))
    assert ground.worker_pids() == workers
    assert int(ground.pid_file.read_text()) == running.pid
    deploy(ground, 3)
    reload(ground, 3)
    ground.expect("drained", release=1)
    assert running.wait() == 0


def test_reloads_while_older_generations_drain(ground: Ground) -> None:
    """Each reload goes ahead though the ones before it still drain; whoever is the main one sees all of them."""
    deploy(ground, 1, drains=True)
    running = ground.serving()
    for release in 2, 3, 4:
        deploy(ground, release, drains=True)
        reload(ground, release)
        ground.expect("drains", release=release - 1)
    assert draining(ground) == [1, 2, 3]
    for release in 2, 1, 3:  # in any order
        let_drain(ground, release)
        ground.expect("drained", release=release)
    assert running.wait() == 0
    deploy(ground, 5)
    reload(ground, 5)
    let_drain(ground, 4)
    ground.expect("drained", release=4)


def test_a_stop_waits_for_all_that_drain(ground: Ground) -> None:
    """A stop lets every generation finish; last leaves the main supervisor, after which systemd would kill the rest."""
    deploy(ground, 1, drains=True)
    ground.serving()
    for release in 2, 3:
        deploy(ground, release, drains=True)
        reload(ground, release)
        ground.expect("drains", release=release - 1)
    main = os.pidfd_open(int(ground.pid_file.read_text()))
    signal.pidfd_send_signal(main, signal.SIGTERM)
    ground.expect("drains", release=3)
    for release in 3, 1:
        let_drain(ground, release)
        ground.expect("drained", release=release)
    assert ground.status()["state"] in ("stopping", "last")
    assert draining(ground)[-1:] == [2]
    let_drain(ground, 2)
    ground.expect("drained", release=2)
    os.close(main)
    ground.expect_nothing_left()


def test_a_stop_sent_to_a_generation_that_drains(ground: Ground) -> None:
    """SIGTERM to the older supervisor means the service: both generations leave."""
    deploy(ground, 1, drains=True)
    running = ground.serving()
    deploy(ground, 2)
    reload(ground, 2)
    ground.expect("drains", release=1)
    running.signal(signal.SIGTERM)
    ground.expect("drained", release=2)
    let_drain(ground, 1)
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_one_that_does_not_stop_draining_is_killed(ground: Ground) -> None:
    """A worker that drains beyond stop_timeout is killed by its own supervisor, which says so and leaves."""
    deploy(ground, 1, "stop_timeout = 0.3", drains=True)
    running = ground.serving()
    deploy(ground, 2)
    reload(ground, 2)
    ground.expect("drains", release=1)
    running.expect_line("Killing worker 0 of generation 1")
    assert running.wait() == 0
    assert ground.seen("drained") == []


def test_a_draining_supervisor_that_hangs_is_killed(ground: Ground) -> None:
    """The main supervisor sees every older generation out, also one whose supervisor hangs, and its workers."""
    deploy(ground, 1, "stop_timeout = 0.3\ntakeover_timeout = 0.3", drains=True)
    running = ground.serving()
    worker = ground.worker_pids()[0]
    for release in 2, 3:
        deploy(ground, release, "takeover_timeout = 0.3")
        reload(ground, release)
        if release == 2:
            ground.expect("drains", release=1)
            running.signal(signal.SIGSTOP)
    wait_gone(running.pid)
    wait_gone(worker)
    deploy(ground, 4)
    reload(ground, 4)
    assert draining(ground) in ([], [3])


def test_the_main_supervisor_dies_while_others_drain(ground: Ground) -> None:
    """The older generation finishes what it began, and nothing is left."""
    deploy(ground, 1, drains=True)
    running = ground.serving()
    deploy(ground, 2)
    reload(ground, 2)
    ground.expect("drains", release=1)
    os.kill(int(ground.pid_file.read_text()), signal.SIGKILL)
    let_drain(ground, 1)
    ground.expect("drained", release=1)
    assert running.wait() == 0
    ground.expect_nothing_left()


@pytest.mark.parametrize(("old", "new"), [("exclusive", "overlap"), ("overlap", "exclusive")])
def test_a_change_of_the_handover_is_exclusive(ground: Ground, old: str, new: str) -> None:
    """Where one of the two generations may not serve beside the other, they never do; later ones as they both wish."""
    alone = "def serve(self):\n    be_the_only_one()\n    report('alone', release=self.release)\n    super().serve()\n"
    deploy(ground, 1, f"handover = {old!r}\n{alone}", drains=True)
    ground.serving()
    ground.expect("alone", release=1)
    deploy(ground, 2, f"handover = {new!r}\n{alone}")
    caller = ground.reload_process()
    ground.expect("drains", release=1)
    assert ground.seen("serves")[1:] == []
    let_drain(ground, 1)
    assert caller.wait() == 0
    ground.expect("alone", release=2)


def test_exclusive_code_waits_for_those_that_drain(ground: Ground) -> None:
    """What may serve beside no other does not, though the other only finishes: such a reload fails and says so."""
    deploy(ground, 1, drains=True)
    running = ground.serving()
    deploy(ground, 2)
    reload(ground, 2)
    ground.expect("drains", release=1)
    deploy(ground, 3, "handover = 'exclusive'\n")
    failed = ground.reload()
    assert failed.returncode == 1
    assert "The new code is exclusive, and generation 1 still drains; reload again when it has left" in failed.stderr
    let_drain(ground, 1)
    assert running.wait() == 0
    deploy(ground, 4, "handover = 'exclusive'\n")
    reload(ground, 4)


# ---------------------------------------------------------------------------------------------------- before_commit


LISTENS = 'listen = {"http": os.environ["GROUND"] + "/http.sock"}'


def checked(ground: Ground, script: str, **settings: float) -> str:
    """The settings of a service that is checked by a shell script."""
    path = ground.write(f"check-{len(list(Path(ground.directory).glob('check-*')))}", script, 0o755)
    lines = [f"before_commit = ['/bin/sh', {str(path)!r}]", *(f"{name} = {value}" for name, value in settings.items())]
    return "\n".join([*lines, LISTENS]) + "\n"


def test_a_check_that_passes(ground: Ground) -> None:
    """The command runs while both generations serve, as the new code's environment has it; then the commit follows."""
    deploy(ground, 1, drains=True)
    ground.serving()
    fifo = ground.directory / "checked"
    os.mkfifo(fifo)
    said = ground.directory / "said"
    script = f'echo "generation $SDSUPERVISE_GENERATION, notify: $NOTIFY_SOCKET" >{said}; read line <{fifo}'
    deploy(ground, 2, checked(ground, script))
    caller = ground.reload_process()
    ground.expect("serves", release=2)
    go = os.open(fifo, os.O_WRONLY)  # waits for the command
    assert ground.seen("drains") == []
    os.write(go, b"go\n")
    os.close(go)
    assert caller.wait() == 0
    assert said.read_text() == "generation 2, notify: \n"
    ground.expect("drains", release=1)
    let_drain(ground, 1)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo some; echo 'the page says 500' >&2; exit 22", "exited with status 22: the page says 500"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("echo waits; exec sleep 1000", "took longer than 0.3 s: waits"),
    ],
)
@pytest.mark.parametrize("handover", ["overlap", "exclusive"])
def test_a_check_that_fails(ground: Ground, handover: str, script: str, reason: str) -> None:
    """The old code serves on, or again, and the command's output is the reason."""
    deploy(ground, 1, f"handover = {handover!r}")
    ground.serving()
    before = ground.worker_pids()
    deploy(ground, 2, f"handover = {handover!r}\n" + checked(ground, script, before_commit_timeout=0.3))
    failed = ground.reload()
    assert failed.returncode == 1, failed
    assert "NOT RELOADED: before_commit (/bin/sh " in failed.stderr
    assert reason in failed.stderr
    if handover == "overlap":
        assert ground.worker_pids() == before
        assert [each.details["release"] for each in ground.seen("drains")] in ([], ["2"])
    else:
        ground.expect("serves", release=1)
    facts = ground.status()["last_reload"]
    assert isinstance(facts, dict) and facts["verdict"] == "failed" and reason in facts["reason"]


def test_a_check_that_does_not_exist(ground: Ground) -> None:
    """The sentence names the command."""
    deploy(ground, 1)
    ground.serving()
    deploy(ground, 2, f"{LISTENS}\nbefore_commit = ['/no/such/command', '-x']")
    failed = ground.reload()
    assert failed.returncode == 1
    assert (
        "before_commit (/no/such/command -x) exited with status 127: cannot be executed: No such file" in failed.stderr
    )


def test_a_stop_during_a_check(ground: Ground) -> None:
    """Everything ends, the command too."""
    deploy(ground, 1)
    running = ground.serving()
    deploy(
        ground,
        2,
        checked(
            ground,
            f"echo $$ >{ground.directory}/pid.new; mv {ground.directory}/pid.new "
            f"{ground.directory}/pid; echo >{ground.directory}/started; exec sleep 1000",
        ),
    )
    os.mkfifo(ground.directory / "started")
    caller = ground.reload_process()
    (ground.directory / "started").read_text()
    running.signal(signal.SIGTERM)
    assert caller.wait() == 1
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_a_worker_that_dies_on_probation_in_overlap(ground: Ground) -> None:
    """A canary with an automatic way back: the old worker never stopped."""
    deploy(ground, 1)
    ground.serving()
    before = ground.worker_pids()
    deploy(ground, 2, "probation = 60\ndef serve(self):\n    raise RuntimeError('the canary is dead')\n")
    failed = ground.reload()
    assert failed.returncode == 1
    assert "RuntimeError: the canary is dead" in failed.stderr
    assert ground.worker_pids() == before
    assert all(report.details["release"] == "2" for report in ground.seen("drains"))
