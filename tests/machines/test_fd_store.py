"""Listeners of ours in systemd's fd store: no crash and no restart of the supervisor closes one."""

from __future__ import annotations

import pytest

from tests.support.clients import Client, listening
from tests.support.trial import Trial

STORE = "FileDescriptorStoreMax=16"


def stored(trial: Trial) -> int:
    """How many descriptors systemd keeps, when the main supervisor has done all it has begun."""
    trial.machine.run("sdsupervise", "status", trial.name)
    return int(trial.show("NFileDescriptorStore")["NFileDescriptorStore"])


def places(trial: Trial) -> dict[str, object]:
    return {"http": "127.0.0.1:8000", "file": f"/run/sdsupervise/{trial.name}/app.sock"}


@pytest.fixture
def serving(trial: Trial) -> Trial:
    """A service with two listeners, started."""
    trial.deploy(1, listening(1, places(trial)))
    trial.install(STORE)
    trial.start()
    return trial


def clients(trial: Trial) -> list[Client]:
    return [Client(trial.machine, ("127.0.0.1", 8000)), Client(trial.machine, str(places(trial)["file"]))]


@pytest.mark.parametrize("way", ["kill", "restart"])
def test_nobody_is_refused(serving: Trial, way: str) -> None:
    """While clients connect in a loop the supervisor is killed, or the unit restarted: they wait, and are served by the
    next one; systemd keeps no more than before."""
    trial = serving
    assert stored(trial) == 2
    tcp, unix = clients(trial)
    with tcp, unix:
        pids = [client.wait_for(1).pid for client in (tcp, unix)]
        for _ in range(2):
            if way == "kill":
                trial.kill(trial.main_pid)
            else:
                trial.systemctl("restart")
            pids = [client.wait_for(1, other_than=pid).pid for client, pid in zip((tcp, unix), pids, strict=True)]
        for client in tcp, unix:
            met = client.stop()
            assert met["refused"] == 0 and met["answered"] > 0
    assert stored(trial) == 2
    assert trial.show("NRestarts")["NRestarts"] == ("2" if way == "kill" else "0")


def test_killed_while_it_starts(trial: Trial) -> None:
    """Before the service is ready, too, a killed supervisor closes none: who has connected already is served."""
    gate = trial.fifo("warm")
    trial.deploy(1, listening(1, places(trial), warm_up=f"print('warming'); open({gate.path!r}).readline()"))
    trial.install(STORE)
    journal = trial.follow()
    with trial.calling("start"):
        journal.wait_for("warming")
        tcp, unix = clients(trial)
        with tcp, unix:
            tcp.wait_until_connected()
            unix.wait_until_connected()
            trial.kill(trial.main_pid)
            journal.wait_for("warming")
            gate.write("go\n")
            for client in tcp, unix:
                client.wait_for(1)
                assert client.stop()["refused"] == 0


def test_changed_addresses(serving: Trial) -> None:
    """A restart with other addresses keeps what both list, opens what is new, though what it replaces occupied the same
    port, and lets systemd close the rest."""
    trial = serving
    kept = str(places(trial)["file"])
    with Client(trial.machine, kept) as client, Client(trial.machine, ("127.0.0.1", 8000)) as moved:
        pid = client.wait_for(1).pid
        moved.wait_for(1)
        trial.deploy(2, listening(2, {"renamed": kept, "http": "0.0.0.0:8000", "more": "@more"}))
        trial.systemctl("restart")
        assert client.wait_for(2, other_than=pid).name == "renamed"
        assert moved.wait_for(2).name == "http"
        assert client.stop()["refused"] == 0
    assert stored(trial) == 3
    trial.deploy(3, listening(3, {"http": "127.0.0.1:8001"}))
    trial.systemctl("restart")
    with Client(trial.machine, ("127.0.0.1", 8001)) as client:
        client.wait_for(3)
    assert stored(trial) == 1
    assert not trial.machine.exists(kept)


def test_reloads_change_the_store(serving: Trial) -> None:
    """What a reload opens is kept from then on, what it drops is not; a name may move to another address."""
    trial = serving
    trial.deploy(2, listening(2, {"http": "127.0.0.1:8001", "file": "127.0.0.1:8000", "more": "@more"}))
    assert trial.reload() == 0
    assert stored(trial) == 3
    trial.deploy(3, listening(3, {"http": "127.0.0.1:8001"}))
    assert trial.reload() == 0
    assert stored(trial) == 1
    with Client(trial.machine, ("127.0.0.1", 8001)) as client:
        pid = client.wait_for(3).pid
        trial.kill(trial.main_pid)
        client.wait_for(3, other_than=pid)
        assert client.stop()["refused"] == 0
    trial.deploy(4, "import nonsense")
    assert trial.reload() != 0
    assert stored(trial) == 1


def test_without_a_store(trial: Trial) -> None:
    """Where the unit keeps nothing (FileDescriptorStoreMax=0 is the default) a restart and a crash listen anew."""
    trial.deploy(1, listening(1, places(trial)))
    trial.install()
    trial.start()
    assert stored(trial) == 0
    for act in (lambda: trial.systemctl("restart"), lambda: trial.kill(trial.main_pid)):
        journal = trial.follow()
        act()
        journal.wait_for("release 1 serves")
        tcp, unix = clients(trial)
        with tcp, unix:
            assert (tcp.wait_for(1).name, unix.wait_for(1).name) == ("http", "file")


def test_a_file_that_went_with_its_directory(trial: Trial) -> None:
    """systemd removes a RuntimeDirectory= that is not to be preserved, and a socket in the store that had its file
    there cannot be reached any more: it is replaced."""
    trial.deploy(1, listening(1, places(trial)))
    trial.install(STORE, "RuntimeDirectoryPreserve=no")
    trial.start()
    trial.systemctl("restart")
    tcp, unix = clients(trial)
    with tcp, unix:
        assert (tcp.wait_for(1).name, unix.wait_for(1).name) == ("http", "file")
    assert stored(trial) == 2


def test_a_stop_closes_all(serving: Trial) -> None:
    """After a stop nobody listens and systemd keeps nothing; the next start listens anew."""
    trial = serving
    trial.stop()
    assert trial.show("NFileDescriptorStore")["NFileDescriptorStore"] == "0"
    trial.start()
    tcp, unix = clients(trial)
    with tcp, unix:
        assert (tcp.wait_for(1).name, unix.wait_for(1).name) == ("http", "file")
