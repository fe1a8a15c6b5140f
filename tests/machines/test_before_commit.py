"""before_commit under systemd: whoever is killed meanwhile, no client is refused, and somebody serves."""

from __future__ import annotations

import signal

import pytest

from tests.support.clients import Client, listening
from tests.support.trial import Trial

# Asks at each address some times, and passes if only this release answers.
CHECK = """
import os, socket, sys
for name in "HTTP", "FILE":
    place = os.environ[f"SDSUPERVISE_LISTEN_{name}"]
    for port in range(61000, 61020):
        client = socket.socket(socket.AF_INET if name == "HTTP" else socket.AF_UNIX)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if name == "HTTP":
            client.bind(("", port))
        host, _, port = place.rpartition(":")
        client.connect((host, int(port)) if host else place)
        answer = client.recv(100).decode()
        if answer.split()[0] != sys.argv[1]:
            sys.exit(f"{place} says {answer}")
"""
STORE = "FileDescriptorStoreMax=16"
OVERLAP = "--handover overlap --stop-timeout 20 --takeover-timeout 2"


def places(trial: Trial) -> dict[str, object]:
    return {"http": "127.0.0.1:8000", "file": f"/run/sdsupervise/{trial.name}/app.sock"}


def deploy(trial: Trial, release: int, *, check: str = "true", probation: float = 0.0) -> None:
    """A release with a check, of two listeners."""
    settings = f"can_do_hot_reload = True; before_commit = ['/bin/sh', '-c', {check!r}]; probation = {probation}"
    trial.deploy(release, listening(release, places(trial)).replace("can_do_hot_reload = True", settings))


def stored(trial: Trial) -> int:
    """How many descriptors systemd keeps, when the main supervisor has done all it has begun."""
    trial.machine.run("sdsupervise", "status", trial.name)
    return int(trial.show("NFileDescriptorStore")["NFileDescriptorStore"])


def clients(trial: Trial) -> tuple[Client, Client]:
    return Client(trial.machine, ("127.0.0.1", 8000)), Client(trial.machine, str(places(trial)["file"]))


def test_reloads(trial: Trial) -> None:
    """The release that is checked answers the check and no client before it is committed to; systemd keeps both sockets
    of a TCP address, and one of a path, after good and bad reloads alike."""
    trial.machine.write(f"/srv/{trial.name}/check", CHECK)
    trial.install(STORE, options=OVERLAP)
    deploy(trial, 1)
    trial.start()
    assert stored(trial) == 3
    tcp, unix = clients(trial)
    with tcp, unix:
        for release in 2, 3, 4:
            deploy(trial, release, check=f"python3 /srv/{trial.name}/check {release}")
            assert trial.reload() == 0, trial.status
            tcp.wait_for(release)
            unix.wait_for(release)
            assert stored(trial) == 3
            deploy(trial, 9, check="echo no; exit 1")
            assert trial.reload() == 1
            assert "exited with status 1: no" in trial.status
        for client in tcp, unix:
            met = client.stop()
            assert (met["refused"], met["cut off"]) == (0, 0) and met["answered"] > 0
    assert stored(trial) == 3
    assert not trial.machine.exists(f"{places(trial)['file']}.next")


def test_code_that_is_loaded_as_another_user(trial: Trial) -> None:
    """What only root may open is open before the code is loaded that asks for the check: a second socket on a low port,
    and one with other owners beside a path. What the code does not ask for is given up again."""
    trial.machine.write(f"/srv/{trial.name}/check", CHECK)
    path = f"/run/sdsupervise/{trial.name}/app.sock"
    listen = f"--listen http=127.0.0.1:80 --listen file={path},user=daemon,mode=0660"
    trial.install(STORE, "RuntimeDirectoryMode=0777", options=f"{OVERLAP} --user games {listen}")
    trial.deploy(1, listening(1, {}))
    trial.start()
    assert stored(trial) == 2 and not trial.machine.exists(f"{path}.next")
    tcp, unix = Client(trial.machine, ("127.0.0.1", 80)), Client(trial.machine, path)
    with tcp, unix:
        for client in tcp, unix:
            client.wait_for(1)
        for release in 2, 3:
            settings = f"before_commit = ['python3', '/srv/{trial.name}/check', '{release}']"
            code = listening(release, {}).replace("can_do_hot_reload = True", f"can_do_hot_reload = True; {settings}")
            trial.deploy(release, code)
            assert trial.reload() == 0, trial.status
            for client in tcp, unix:
                client.wait_for(release)
            assert stored(trial) == 3
            assert trial.machine.run("stat", "-c", "%U %a", path).stdout == "daemon 660\n"
        for client in tcp, unix:
            met = client.stop()
            assert (met["refused"], met["cut off"]) == (0, 0)
    assert not trial.machine.exists(f"{path}.next")


@pytest.mark.parametrize("victim", ["predecessor", "successor"])
@pytest.mark.parametrize("stage", ["check", "probation"])
def test_killed_before_the_commit(trial: Trial, victim: str, stage: str) -> None:
    """The main supervisor, and systemd starts the unit again; or the new one, and the old one goes on. Either way every
    client finds somebody who listens, at every moment, and is served in the end."""
    trial.main_pid_is_doubtful = True
    fifo = trial.fifo("check")
    trial.install(STORE, options=OVERLAP)
    deploy(trial, 1)
    trial.start()
    tcp, unix = clients(trial)
    with tcp, unix:
        pids = [client.wait_for(1).pid for client in (tcp, unix)]
        main, journal = trial.main_pid, trial.follow()
        check = f"echo $PPID; read line <{fifo.path}" if stage == "check" else "true"
        deploy(trial, 2, check=check, probation=60.0)
        with trial.calling("reload") as call:
            journal.wait_for("is being checked" if stage == "check" else "on probation")
            if stage == "probation":
                pids = [client.wait_for(2).pid for client in (tcp, unix)]
            (successor,) = {process.ppid for process in trial.processes} - {1, main, 0}
            trial.kill(main if victim == "predecessor" else successor)
            assert call.wait(20) != 0
        serving = 2 if victim == "predecessor" else 1
        if victim == "predecessor" or stage == "probation":
            for client, pid in zip((tcp, unix), pids, strict=True):
                client.wait_for(serving, other_than=pid)
        for client in tcp, unix:
            assert client.stop()["refused"] == 0
    deploy(trial, 3)
    assert trial.reload() == 0
    assert stored(trial) == 3
    assert not trial.machine.exists(f"{places(trial)['file']}.next")


@pytest.mark.parametrize("effect", [0, 1, 2, 3])
@pytest.mark.parametrize("victims", ["both", "predecessor", "successor"])
def test_killed_in_the_commit(trial: Trial, victims: str, effect: int) -> None:
    """Before, between and after its effects."""
    trial.main_pid_is_doubtful = True
    gate = trial.gate()
    trial.install(STORE, gate.setting("COMMITTING+BARRIER_RETURNED", effect), options=OVERLAP)
    deploy(trial, 1)
    trial.start()
    tcp, unix = clients(trial)
    with tcp, unix:
        pids = [client.wait_for(1).pid for client in (tcp, unix)]
        deploy(trial, 2)
        with trial.calling("reload") as call:
            old, journal = gate.wait_until_reached(), trial.follow()
            (new,) = {process.ppid for process in trial.processes} - {1, old, 0}
            if effect:
                pids = [client.wait_for(2).pid for client in (tcp, unix)]
            if victims != "successor":
                trial.kill(old)
            if victims != "predecessor":
                trial.kill(new)
            gate.open()
            call.wait(20)
        if victims != "predecessor":  # that is not the main one any more
            journal.wait_for("release 2 serves")
        if victims != "predecessor" or not effect:
            for client, pid in zip((tcp, unix), pids, strict=True):
                client.wait_for(2, other_than=pid)
        for client in tcp, unix:
            assert client.stop()["refused"] == 0
    deploy(trial, 3)
    assert trial.reload() == 0
    assert stored(trial) == 3
    assert not trial.machine.exists(f"{places(trial)['file']}.next")


def test_killed_before_it_could_settle(trial: Trial) -> None:
    """The new main supervisor is killed right after the commit, before it could store anything itself."""
    trial.main_pid_is_doubtful = True
    gate = trial.gate()
    trial.install(STORE, gate.setting("COMMITTING+BARRIER_RETURNED", 0), options=OVERLAP)
    deploy(trial, 1)
    trial.start()
    tcp, unix = clients(trial)
    with tcp, unix:
        pids = [client.wait_for(1).pid for client in (tcp, unix)]
        deploy(trial, 2)
        with trial.calling("reload") as call:
            old, journal = gate.wait_until_reached(), trial.follow()
            (new,) = {process.ppid for process in trial.processes} - {1, old, 0}
            trial.kill(new, signal.SIGSTOP)
            gate.open()
            journal.wait_for("Reloaded: generation 2")
            trial.kill(new)
            call.wait(20)
        journal.wait_for("release 2 serves")
        for client, pid in zip((tcp, unix), pids, strict=True):
            client.wait_for(2, other_than=pid)
            assert client.stop()["refused"] == 0
    assert stored(trial) == 3
