"""Sockets of a .socket unit, and ports that only root may open."""

from __future__ import annotations

import pytest

from tests.support.clients import Client, listening
from tests.support.trial import Trial

HTTP = ("127.0.0.1", 8000)


def socket_unit(trial: Trial, *lines: str) -> str:
    """Write a .socket unit for the trial and start it: systemd listens from then on."""
    unit = f"{trial.name}.socket"
    text = "\n".join(["[Socket]", "ListenStream=127.0.0.1:8000", *lines, ""])
    trial.machine.write(f"/run/systemd/system/{unit}", text)
    trial.machine.run("systemctl", "daemon-reload")
    trial.machine.run("systemctl", "start", unit)
    return unit


@pytest.mark.parametrize("listen", [{}, {"http": "127.0.0.1:8000"}], ids=["not listed", "listed"])
def test_a_socket_unit(trial: Trial, listen: dict[str, object]) -> None:
    """The first client starts the service; none is refused through reloads of both kinds, a killed supervisor, and a
    restart; the socket is known by the name of its unit, or by the only one that is listed."""
    name = "http" if listen else trial.name
    unit = socket_unit(trial)
    trial.deploy(1, listening(1, listen))
    journal = trial.follow()
    try:
        with Client(trial.machine, HTTP) as client:
            assert client.wait_for(1).name == name
            trial.deploy(2, listening(2, listen))
            assert trial.reload() == 0
            assert client.wait_for(2).name == name
            trial.deploy(3, listening(3, listen))
            trial.systemctl("kill", "--signal=USR2")
            pid = client.wait_for(3).pid
            journal.wait_for("Reloaded: generation 3")
            trial.kill(trial.main_pid)
            pid = client.wait_for(3, other_than=pid).pid
            trial.systemctl("restart")
            client.wait_for(3, other_than=pid)
            assert client.stop()["refused"] == 0
        assert (
            f"socket     {name}   127.0.0.1:8000   from systemd"
            in trial.machine.run("sdsupervise", "status", trial.name).stdout
        )
        assert trial.show("NFileDescriptorStore")["NFileDescriptorStore"] == "0"
    finally:
        trial.machine.run("systemctl", "stop", unit)


def test_a_socket_unit_of_another_name(trial: Trial) -> None:
    """Names that do not agree end the start with status 78 and one sentence that says both."""
    trial.ends_failed = True
    unit = socket_unit(trial, "FileDescriptorName=web")
    trial.deploy(1, listening(1, {"http": "127.0.0.1:8000"}))
    assert trial.systemctl("start", check=False).returncode != 0
    trial.machine.run("systemctl", "stop", unit)
    assert trial.show("ExecMainStatus")["ExecMainStatus"] == "78"
    assert trial.status.startswith("systemd passes the sockets web, but listen has http: use the same names ")


def test_ports_of_root(trial: Trial) -> None:
    """The supervisor opens port 80 and drops its privileges. A reload by ExecReload=, which systemd starts as root, may
    open another such port; one by SIGUSR2, which begins without privileges, fails and says why."""
    trial.install("RuntimeDirectoryMode=0777", command=f"{trial.command} --user nobody")
    trial.deploy(1, listening(1, {"http": "127.0.0.1:80"}))
    trial.start()
    trial.deploy(2, listening(2, {"http": "127.0.0.1:80", "https": "127.0.0.1:443"}))
    assert trial.reload() == 0
    with Client(trial.machine, ("127.0.0.1", 80)) as http, Client(trial.machine, ("127.0.0.1", 443)) as https:
        assert (http.wait_for(2).name, https.wait_for(2).name) == ("http", "https")
        journal = trial.follow()
        trial.deploy(3, listening(3, {"http": "127.0.0.1:80", "gopher": "127.0.0.1:70"}))
        trial.systemctl("kill", "--signal=USR2")
        journal.wait_for(
            "Not reloaded: Cannot listen on 127.0.0.1:70 (listen 'gopher'): port 70 needs a privilege; start as root "
            "with --user, give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE, or have a .socket unit "
        )
        assert trial.assert_serves(2)
        assert (http.stop()["refused"], https.stop()["refused"]) == (0, 0)


def test_a_port_of_root_for_another_user(trial: Trial) -> None:
    """Under User= a port below 1024 is refused with what to do, status 77; with the capability it is given."""
    trial.deploy(1, listening(1, {"http": "127.0.0.1:80"}))
    trial.install("User=nobody", "Restart=no")
    assert trial.systemctl("start", check=False).returncode != 0
    assert trial.show("ExecMainStatus")["ExecMainStatus"] == "77"
    assert "port 80 needs a privilege" in trial.status
    trial.install("User=nobody", "AmbientCapabilities=CAP_NET_BIND_SERVICE")
    trial.start()
    with Client(trial.machine, ("127.0.0.1", 80)) as client:
        client.wait_for(1)
