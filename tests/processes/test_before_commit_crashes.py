"""Whoever is killed while before_commit runs, or before the commit it leads to: clients find somebody who serves."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.processes.test_sockets import ask, host, port
from tests.support.harness import Breakpoint, Ground
from tests.support.places import NAMES_MAIN
from tests.support.running import wait_gone
from tests.support.site import (
    REQUESTS,
    Site,
    addresses,
    everybody_is_served_by,
    load,
    mixed,
    nobody_is_held,
    parent_of,
    site_of,
)

__all__ = ["host", "mixed", "port"]  # fixtures


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("victim", ["predecessor", "successor"])
def test_a_supervisor_is_killed_during_the_check(mixed: Site, victim: str, earlier: bool) -> None:
    """If it is the successor, no client notices. If it is the predecessor, the successor serves all. Both in the first
    checked reload, where the second socket of an address is new, and in a later one."""
    site, ground = mixed, mixed.ground
    site.deploy(1, checks=REQUESTS if earlier else 0)
    running = site.start()
    if earlier:
        site.deploy(2)
        assert site.reload().wait() == 0
        assert running.wait() == 0
    ground.make_gate()
    serving = int(str(site.status()["pid"]))
    old_workers = [process.pid for process in psutil.Process(serving).children()]
    site.deploy(3)
    reload = site.reload_process()
    check = ground.expect("checks")
    worker = ground.expect("serves", release=3)
    with load(*addresses(site)) as met:
        os.kill(serving if victim == "predecessor" else parent_of(check.pid), signal.SIGKILL)
        reload.wait()
        wait_gone(check.pid)
        if victim == "successor":
            wait_gone(worker.pid)
            site.status()  # by now the predecessor has seen that, too
        else:
            for pid in old_workers:
                wait_gone(pid)
    expected = 3 if victim == "predecessor" else 2 if earlier else 1
    everybody_is_served_by(site, expected)
    if victim == "successor":
        assert met["lost"] == 0 and set(met) == {str(expected)}
    (ground.directory / "gate").unlink()
    site.deploy(4)
    assert site.reload().wait() == 0
    everybody_is_served_by(site, 4)
    site.stop()


# What is held, who is killed there, and who serves then.
_PLACES = [
    ("YIELDED+PEER_SERVES/0", "successor", 1),
    ("CHECKING+PEER_CHECKED/0", "predecessor", 2),
    ("CHECKING+PEER_CHECKED/0", "successor", 1),
    (f"{NAMES_MAIN}/0", "predecessor", 2),
    (f"{NAMES_MAIN}/0", "successor", 1),
    (f"{NAMES_MAIN}/1", "successor", 1),
    ("COMMITTING+BARRIER_RETURNED/0", "predecessor", 2),
    ("COMMITTING+BARRIER_RETURNED/1", "predecessor", 2),
    ("COMMITTING+BARRIER_RETURNED/2", "predecessor", 2),
    ("COMMITTING+BARRIER_RETURNED/3", "predecessor", 2),
]


@pytest.mark.parametrize("probation", [0.0, 0.1])
@pytest.mark.parametrize(("place", "victim", "expected"), _PLACES)
def test_a_supervisor_is_killed_elsewhere(
    mixed: Site, place: str, victim: str, expected: int, probation: float
) -> None:
    """Before the predecessor hears of the check, on probation, and in the middle of the commit: clients are served by
    whoever is left, at every address; nothing of the other one's sockets is left; and the next reload works."""
    site, ground = mixed, mixed.ground
    hold = Breakpoint(ground, place)
    site.deploy(1)
    running = site.start(environment=hold.environment)
    site.deploy(2, probation=probation)
    reload = site.reload_process()
    worker = ground.expect("serves", release=2)
    assert hold.wait() == running.pid
    if victim == "predecessor":
        running.signal(signal.SIGKILL)
    else:
        successor = parent_of(worker.pid)
        os.kill(successor, signal.SIGKILL)
        for pid in successor, worker.pid:  # the worker leaves as soon as its supervisor is about to be dead
            wait_gone(pid)
        hold.release()
    hold.remove()
    assert (reload.wait() == 0) == (place == "COMMITTING+BARRIER_RETURNED/3")
    if victim == "predecessor":
        assert running.wait() == -signal.SIGKILL
    site.status()
    everybody_is_served_by(site, expected)
    site.deploy(3)
    assert site.reload().wait() == 0
    everybody_is_served_by(site, 3)
    site.stop()


def test_a_check_that_comes_too_late(mixed: Site) -> None:
    """New code whose worker dies has failed, and its check goes on for a moment: the old code does not answer that
    either."""
    site, ground = mixed, mixed.ground
    hold = Breakpoint(ground, "CHECKING+PEER_FAILED/0")
    site.deploy(1)
    site.start(environment=hold.environment)
    ground.make_gate()
    site.deploy(2, delay_before_respawn=0)
    reload = site.reload_process()
    ground.expect("checks")
    os.kill(ground.expect("serves", release=2).pid, signal.SIGKILL)
    replacement = ground.expect("serves", release=2)
    hold.wait()
    ground.open_gate()
    ground.expect("checked")
    assert {release for release, _ in site.answers()} == {"2"}
    everybody_is_served_by(site, 1, settled=False)
    hold.release()
    assert reload.wait() == 1
    wait_gone(replacement.pid)
    site.status()  # by now the old one has removed what is left of the new code's
    everybody_is_served_by(site, 1)
    site.stop()


def test_a_worker_that_began_in_a_failed_reload(mixed: Site) -> None:
    """Among what it has inherited is nothing of the successor's: no client is left waiting for a socket of that, when
    the next reload has succeeded."""
    site, ground = mixed, mixed.ground
    site.deploy(1, checks=0, delay_before_respawn=0)
    site.start()
    first = ground.expect("serves").pid
    hold = Breakpoint(ground, "WARMING+WORKER_READY/0")
    site.deploy(2, "bad")
    service = ground.directory / "releases" / "2" / "service.py"
    service.write_text(f"import os\nos.environ.update({hold.environment})\n" + service.read_text())
    reload = site.reload_process()
    hold.wait()
    os.kill(first, signal.SIGKILL)
    ground.expect("serves", release=1)
    hold.release()
    assert reload.wait() == 1
    site.status()
    site.deploy(3)
    assert site.reload().wait() == 0
    everybody_is_served_by(site, 3)
    site.stop()


# ------------------------------------------------------------------------------------------ while workers are held


@pytest.mark.parametrize("kind", ["class", "command"])
@pytest.mark.parametrize("victim", ["holder", "successor", "both supervisors", "a held worker", "stopped", "late"])
def test_nobody_stays_held(ground: Ground, host: str, port: int, kind: str, victim: str) -> None:
    """Held workers go on, and so can be stopped, whoever of those that hold them is killed, and when the check takes
    too long, or the service is told to stop in the middle of it."""
    with site_of(ground, kind, {"a": f"{host}:{port}"}) as site:
        site.deploy(1, workers=3)
        running = site.start()
        ground.make_gate()
        limit = 1.0 if victim == "late" else 60.0
        site.deploy(2, workers=3, before_commit_each=True, stop_timeout=2.0, before_commit_timeout=limit)
        reload = site.reload_process()
        check = ground.expect("checks")
        holder = parent_of(check.pid)
        successor = parent_of(holder)
        workers = [child.pid for child in psutil.Process(successor).children() if child.pid != holder]
        held = [pid for pid in workers if psutil.Process(pid).status() == psutil.STATUS_STOPPED]
        assert len(workers) == 3 and len(held) == 2
        if victim == "holder":
            os.kill(holder, signal.SIGKILL)
        elif victim in ("successor", "both supervisors"):
            os.kill(successor, signal.SIGKILL)
            if victim == "both supervisors":
                running.signal(signal.SIGKILL)
        elif victim == "a held worker":
            os.kill(held[0], signal.SIGKILL)
        elif victim == "stopped":
            running.signal(signal.SIGTERM)
        assert reload.wait() != 0
        for pid in (check.pid, holder, *workers):
            wait_gone(pid)
        assert nobody_is_held(site)
        if victim in ("stopped", "both supervisors"):
            ground.expect_nothing_left()
            return
        if victim == "late":
            assert "NOT RELOADED: before_commit for worker 0 (" in reload.err and "took longer than 1 s" in reload.err
        assert ask((host, port))[0] == "1"
        (ground.directory / "gate").unlink()
        site.deploy(3, workers=3, before_commit_each=True)
        assert site.reload().wait() == 0
        assert ask((host, port))[0] == "3"
        site.stop()
