"""Units with a user of their own and a sandbox: start, reload, a broken reload and a stop work as everywhere."""

from __future__ import annotations

import signal

import pytest

from tests.support.trial import Trial, source

# The settings with the lowest exposure that a supervisor can live in.
HARDENED = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
RemoveIPC=yes
KeyringMode=private
UMask=0077
""".splitlines()
FILTER = ("SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources")
FEW_CAPABILITIES = "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL CAP_CHOWN CAP_DAC_OVERRIDE"

UNITS: dict[str, list[str]] = {
    "user": ["User=games"],
    "user and group": ["User=games", "Group=mail", "SupplementaryGroups=audio"],
    "dynamic user": ["DynamicUser=yes", "StateDirectory=%N"],
    "hardened user": ["User=games", *HARDENED, *FILTER, "CapabilityBoundingSet="],
    "hardened dynamic user": ["DynamicUser=yes", "StateDirectory=%N", *HARDENED, *FILTER],
    "private users": ["User=games", "PrivateUsers=yes", "PrivateTmp=yes"],
    "hardened root": [*HARDENED, "CapabilityBoundingSet=", FILTER[0]],
    "delegated": ["Delegate=yes"],
    "delegated to a user": ["User=games", "Delegate=yes"],
    "notifications from the control process too": ["NotifyAccess=exec"],
    "no runtime directory kept": ["RuntimeDirectoryPreserve=no"],
    "killed as a group": ["KillMode=control-group"],
}
FACTS = "facts['uid'], facts['gid'], facts['groups'] = os.getuid(), os.getgid(), sorted(os.getgroups())"


def whole_life(trial: Trial) -> None:
    """Start, reload, two broken reloads, a reload by signal, a killed worker, a stop."""
    trial.deploy(1, source(1, facts=FACTS))
    trial.start()
    first = trial.assert_serves(1)
    trial.deploy(3, source(3, facts=FACTS))
    assert trial.reload() == 0
    answer = trial.assert_serves(3)
    assert [answer[name] for name in ("uid", "gid", "groups")] == [first[name] for name in ("uid", "gid", "groups")]
    serving = (trial.main_pid, trial.worker_pid)
    trial.deploy(4, source(4, top="import requsts"))
    assert trial.reload() == 1
    assert (trial.main_pid, trial.assert_serves(3)["pid"]) == serving
    trial.deploy(5, source(5, warm_up="os.kill(os.getppid(), signal.SIGSTOP); signal.pause()"))
    assert trial.reload() == 1  # the predecessor has to kill it
    assert "was not ready within 3 s" in trial.status
    assert (trial.main_pid, trial.assert_serves(3)["pid"]) == serving
    journal = trial.follow()
    trial.deploy(6, source(6, facts=FACTS))
    trial.systemctl("kill", "--kill-whom=main", "--signal=USR2")
    journal.wait_for("Reloaded: generation")
    trial.machine.wait_until_gone(serving[0], timeout_seconds=10)
    trial.assert_serves(6)
    journal = trial.follow()
    trial.kill(trial.worker_pid, signal.SIGKILL)
    journal.wait_for("release 6 serves")
    assert trial.assert_serves(6)["uid"] == first["uid"]
    assert trial.strays == []
    trial.stop()
    trial.assert_gone()


@pytest.mark.parametrize("kind", UNITS)
def test_units_of_every_kind(trial: Trial, kind: str) -> None:
    """What works as root in the open works as whoever, in a sandbox: the whole of a service's life."""
    trial.install(*UNITS[kind], "WatchdogSec=20", options="--reload-timeout 3")
    whole_life(trial)


def test_a_service_that_drops_its_privileges(trial: Trial) -> None:
    """`--user` under a root's unit with few capabilities: each generation is born as root and serves as the user."""
    command = f"{trial.command.replace(' run ', ' run --reload-timeout 3 ')} --user games --group mail"
    # For this service puts a socket there, which a root's directory would not let it.
    trial.install(*HARDENED[1:], FILTER[0], FEW_CAPABILITIES, "RuntimeDirectoryMode=1777", command=command)
    whole_life(trial)


def test_state_of_a_dynamic_user(trial: Trial) -> None:
    """What one generation writes into StateDirectory= the next can read and write, also after a restart, which may make
    up another user."""
    count = """
place = os.environ['STATE_DIRECTORY'] + '/count'
old = int(open(place).read()) if os.path.exists(place) else 0
open(place, 'w').write(str(old + 1))
self.count = old + 1"""
    trial.deploy(1, source(1, warm_up=count, facts="facts['count'] = self.count"))
    trial.install("DynamicUser=yes", "StateDirectory=%N")
    trial.start()
    assert trial.ask()["count"] == 1
    assert trial.reload() == 0
    assert trial.ask()["count"] == 2
    trial.systemctl("restart")
    assert trial.ask()["count"] == 3
    assert trial.reload() == 0
    assert trial.ask()["count"] == 4
