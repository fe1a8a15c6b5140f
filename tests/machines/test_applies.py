"""A reload applies the unit: what of it a successor finds as new, and what needs a restart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.applies import SETTINGS, Applied, Setting
from tests.support.machine import Machine
from tests.support.trial import Trial, source

_HELPERS = """
import mmap, resource

def read(path):
    with open(path) as file:
        return file.read().strip()

def status(name):
    return next(line for line in read("/proc/self/status").splitlines() if line.startswith(name + ":"))

def can(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return "can"

def attempt(probe):
    try:
        return probe()
    except Exception as error:
        return repr(error)
"""


class Measured:
    """What a worker found at the start, after a reload, and after a restart."""

    def __init__(self, trial: Trial) -> None:
        home = f"/srv/{trial.name}"
        for place, word in (("one", "old"), ("two", "new"), ("hidden", "hidden")):
            trial.machine.write(f"{home}/{place}/marker", "")
            trial.machine.write(f"{home}/{place}/token", f"TOKEN={word}\n")
        for place in ("/root", "/tmp", "/dev", "/opt"):
            trial.machine.write(f"{place}/marker", "")
        trial.machine.run("mkdir", "-p", "/mnt")
        probes = ", ".join(
            f"{setting.name!r}: attempt(lambda: {setting.probe.format(home=home)})" for setting in SETTINGS
        )
        trial.deploy(1, source(1, top=_HELPERS, facts=f"facts['found'] = {{{probes}}}"))
        command = f"/usr/bin/sdsupervise run {trial.current}/trial.py:Trial"
        trial.install(*self.lines(trial, "old"), "SystemCallErrorNumber=EPERM", command=command)
        trial.start()
        self.at_start = trial.ask()["found"]
        main = trial.main_pid
        trial.install(*self.lines(trial, "new"), "SystemCallErrorNumber=EPERM", command=command)
        assert trial.reload() == 0, trial.status
        assert trial.main_pid != main
        self.after_reload = trial.ask()["found"]
        trial.systemctl("restart")
        self.after_restart = trial.ask()["found"]

    @staticmethod
    def lines(trial: Trial, which: str) -> list[str]:
        """The unit's settings, all old or all new."""
        values = {setting.name: getattr(setting, which) for setting in SETTINGS}
        return [name + value.format(home=f"/srv/{trial.name}", name=trial.name) for name, value in values.items()]


@pytest.fixture(scope="module")
def measured(machine: Machine) -> Iterator[Measured]:
    """All settings, changed at once."""
    trial = Trial(machine, "measured")
    try:
        yield Measured(trial)
    finally:
        trial.close()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_what_a_reload_applies(measured: Measured, setting: Setting) -> None:
    """The worker finds after a reload what the table says: the value of the restarted service, or still the old one."""
    old, new = measured.at_start[setting.name], measured.after_restart[setting.name]
    assert old != new, "this probe does not see the setting"
    assert measured.after_reload[setting.name] == (new if setting.applied is Applied.BY_RELOAD else old)


def test_a_swapped_working_directory(trial: Trial) -> None:
    """WorkingDirectory= through a symlink: a reload takes the directory, and the code in it, that the symlink names
    now, though the supervisor's own working directory is the old one."""
    command = "/usr/bin/sdsupervise run trial.py:Trial"
    trial.deploy(1, source(1, facts="facts['directory'] = os.getcwd()"))
    trial.install(f"WorkingDirectory={trial.current}", command=command)
    trial.start()
    for release in (2, 3):
        trial.deploy(release, source(release, facts="facts['directory'] = os.getcwd()"))
        assert trial.reload() == 0
        answer = trial.assert_serves(release)
        assert answer["directory"] == f"/srv/{trial.name}/releases/{release}"


def test_a_working_directory_that_is_gone(trial: Trial) -> None:
    """systemd cannot even start ExecReload=: the reload fails, the old code serves on."""
    trial.install(f"WorkingDirectory={trial.current}", command="/usr/bin/sdsupervise run trial.py:Trial")
    trial.start()
    serving = (trial.main_pid, trial.worker_pid)
    trial.machine.symlink("releases/none", trial.current)
    assert trial.reload() == 1
    assert (trial.main_pid, trial.assert_serves(1)["pid"]) == serving
    trial.deploy(2)
    assert trial.reload() == 0
    trial.assert_serves(2)


def test_by_signal_the_unit_of_the_start_stays(trial: Trial) -> None:
    """SIGUSR2 makes the supervisor itself the successor's parent: it inherits, and finds nothing new."""
    trial.install("Environment=COLOUR=red")
    trial.start()
    trial.install("Environment=COLOUR=green")
    journal = trial.follow()
    trial.systemctl("kill", "--kill-whom=main", "--signal=USR2")
    journal.wait_for("Reloaded: generation 2 serves")
    assert trial.ask()["environment"]["COLOUR"] == "red"
    assert trial.reload() == 0
    assert trial.ask()["environment"]["COLOUR"] == "green"


NAMELESS = ("ExecReload=", "ExecReload=/usr/bin/sdsupervise reload")
"""So short that the successor executes, to keep its environment in /proc."""


def refused(trial: Trial, *settings: str, command: str = "") -> dict[str, Any]:
    """Change the unit so that a reload must fail, and see that it does: the same processes serve on."""
    serving = (trial.main_pid, trial.worker_pid)
    trial.install(*settings, command=command)
    assert trial.reload() == 1
    assert trial.main_pid == serving[0]
    answer = trial.assert_serves(1)
    assert answer["pid"] == serving[1]
    assert trial.show("NRestarts")["NRestarts"] == "0"
    return answer


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("User=games", "User=mail"),
        ("User=games", "DynamicUser=yes"),
        ("User=root", "User=games"),
    ],
)
def test_another_user_needs_a_restart(trial: Trial, old: str, new: str) -> None:
    """A reload as somebody else is refused, as it is for everybody but root and the supervisor's own user; a restart
    applies it; with the old user back the next reload works."""
    trial.install(old)
    trial.start()
    refused(trial, new)
    assert "may reload" in "".join(entry["MESSAGE"] for entry in trial.story().own)
    trial.install(old)
    assert trial.reload() == 0
    trial.install(new)
    trial.systemctl("restart")
    trial.assert_serves(1)
    assert trial.reload() == 0
    trial.assert_serves(1)


def test_root_needs_a_restart(trial: Trial) -> None:
    """User= taken away: what lies in the run directory is root's by then, whoever has written it. So none of it is
    executed, and the supervisor's own successor may not open the pid file. A restart applies it."""
    facts = "facts['uid'] = os.getuid()"
    trial.deploy(1, source(1, facts=facts))
    trial.install("User=games")
    trial.start()
    user = trial.ask()["uid"]
    assert user != 0
    assert refused(trial)["uid"] == user
    assert trial.story().says(f"The service was started as uid {user}; to change the user, restart the service")
    trial.systemctl("restart")
    assert trial.ask()["uid"] == 0
    assert trial.reload() == 0


def test_another_runtime_directory_needs_a_restart(trial: Trial) -> None:
    """ExecReload= looks for the control socket in the new directory, where nobody listens, and says so."""
    trial.start()
    refused(trial, "RuntimeDirectory=", f"RuntimeDirectory=sdsupervise/{trial.name}-more")
    assert trial.story().says(f"Nobody listens on /run/sdsupervise/{trial.name}-more/control")


def test_a_command_line_needs_a_restart(trial: Trial) -> None:
    """A successor is executed with the command line of the first generation; --stop-timeout tells."""
    trial.deploy(1, source(1, facts="facts['stop_timeout'] = self.stop_timeout"))
    trial.install(options="--stop-timeout 7")
    trial.start()
    trial.install(options="--stop-timeout 8")
    assert trial.reload() == 0
    assert trial.ask()["stop_timeout"] == 7
    trial.systemctl("restart")
    assert trial.ask()["stop_timeout"] == 8


def test_a_watchdog_needs_a_restart(trial: Trial) -> None:
    """systemd keeps the WatchdogSec= of the start, and so do we, so that no generation pings too seldom."""
    trial.install("WatchdogSec=20", *NAMELESS)
    trial.start()
    trial.install("WatchdogSec=40", *NAMELESS)
    assert trial.reload() == 0
    assert trial.environment_of(trial.main_pid)["WATCHDOG_USEC"] == "20000000"
    trial.systemctl("restart")
    assert trial.environment_of(trial.main_pid)["WATCHDOG_USEC"] == "40000000"


_CREDENTIAL = "facts['token'] = open(os.path.join(os.environ['CREDENTIALS_DIRECTORY'], 'token')).read()"


def test_credentials_need_a_restart(trial: Trial) -> None:
    """systemd writes them for ExecStart= alone: after a reload the service finds the old ones, and all else as new."""
    trial.deploy(1, source(1, facts=_CREDENTIAL))
    trial.install("SetCredential=token:old", "Environment=COLOUR=red")
    trial.start()
    trial.install("SetCredential=token:new", "Environment=COLOUR=green")
    assert trial.reload() == 0
    answer = trial.ask()
    assert (answer["token"], answer["environment"]["COLOUR"]) == ("old", "green")
    trial.systemctl("restart")
    assert trial.ask()["token"] == "new"


@pytest.mark.parametrize("user", ["root", "games"])
def test_credentials_in_a_sandbox(trial: Trial, user: str) -> None:
    """ExecReload= cannot reach the credentials where it has a mount namespace of its own. The new code gets them all
    the same, from the supervisor, with the rest of the unit as it was; which the journal says, STATUS and status."""
    trial.deploy(1, source(1, facts=_CREDENTIAL))
    settings = (f"User={user}", "PrivateTmp=yes", "SetCredential=token:old")
    trial.install(*settings, "Environment=COLOUR=red")
    trial.start()
    trial.install(*settings, "Environment=COLOUR=green")
    trial.deploy(2, source(2, facts=_CREDENTIAL))
    journal = trial.follow()
    assert trial.reload() == 0
    answer = trial.assert_serves(2)
    assert (answer["token"], answer["environment"]["COLOUR"]) == ("old", "red")
    why = "ExecReload= cannot read the unit's credentials; to apply all changes, restart the unit"
    assert trial.story().says(f"This reload applies no change of the unit: {why}")
    journal.wait_for(f"applied no change of the unit: {why}")  # the end of a notification
    assert re.search(rf"^Generation 2 serves .*\. Reload [\d:]+ applied no change of the unit: {why}$", trial.status)
    facts = json.loads(trial.machine.run("sdsupervise", "status", "--json", trial.name).stdout)
    assert (facts["last_reload"]["verdict"], facts["last_reload"]["not_applied"]) == ("done", why)
    shown = trial.machine.run("sdsupervise", "status", trial.name).stdout
    assert f"no change of the unit was applied: {why}" in shown
    trial.install(*settings)
    assert trial.machine.run("systemctl", "restart", trial.unit).returncode == 0
    assert "no change" not in trial.status


def test_systemds_own_settings_need_nothing(trial: Trial) -> None:
    """What systemd does itself, it does as the unit says now: ExecReload=, ExecStop=, RestartSec=, TimeoutStopSec=."""
    trial.start()
    trial.install(
        "ExecReload=/bin/echo reloaded as well",
        "ExecStop=/bin/echo about to stop",
        "RestartSec=3s",
        "TimeoutStopSec=4s",
        "KillMode=control-group",
        "Restart=on-failure",
    )
    shown = trial.show("RestartUSec", "TimeoutStopUSec", "KillMode", "Restart")
    assert shown == {"RestartUSec": "3s", "TimeoutStopUSec": "4s", "KillMode": "control-group", "Restart": "on-failure"}
    assert trial.reload() == 0
    assert trial.story().says("reloaded as well")
    trial.stop()
    assert trial.story().says("about to stop")
