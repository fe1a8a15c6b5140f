"""Units with settings in which a supervisor alone would not live: they are wrapped on a real systemd."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from sdsupervise.unitfiles.calls import CALLS
from sdsupervise.unitfiles.handling import handling_of
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True)
UNIT = "/etc/systemd/system/app.service"
DROP_IN = "/etc/systemd/system/{}.d/zz-sdsupervise.conf"
SLEEP = "ExecStart=/usr/bin/sleep infinity"
# Notes by which signal it is stopped, and ends.
STOPPED = """\
#!/usr/bin/python3
import signal
signals = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
open("/srv/stops", "a").write(signal.Signals(signal.sigwait(signals)).name + "\\n")
"""


@pytest.fixture(autouse=True)
def clean(machine: Machine) -> Iterator[None]:
    """Nothing of a test is left for the next one."""
    yield
    machine.run("systemctl", "stop", "app*", "other", "needs-app", check=False)
    machine.run("sh", "-c", "rm -rf /etc/systemd/system/app* /etc/systemd/system/needs-app* /srv/stops /srv/stopped")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed")


def sdsupervise(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, whatever it ends with."""
    return machine.run("sdsupervise", "unit", *arguments, check=False)


def make(machine: Machine, *lines: str, name: str = "app.service") -> None:
    """Write a unit with these lines of [Service], and let systemd read it."""
    machine.write(f"/etc/systemd/system/{name}", "\n".join(["[Service]", *lines, ""]))
    machine.run("systemctl", "daemon-reload")


def remains(done: subprocess.CompletedProcess[str]) -> str:
    """The command that is printed as what remains."""
    assert done.returncode == 0, done
    return done.stdout.splitlines()[-1].partition("what remains to do")[2].partition(": ")[2]


def make_quick(machine: Machine) -> None:
    """Let the wrapped unit be ready at once."""
    machine.run("sed", "--in-place", "s/--ready-after 3/--ready-after 0.1/", DROP_IN.format("app.service"))
    machine.run("systemctl", "daemon-reload")


def users(machine: Machine, unit: str) -> set[str]:
    """The users of all processes of a unit."""
    tree = machine.run("systemd-cgls", "--unit", unit, "--no-pager", "--full").stdout
    pids = re.findall(r"[├└]─ *([0-9]+) ", tree)
    assert len(pids) > 1, tree
    places = [f"/proc/{pid}" for pid in pids]
    return set(machine.run("stat", "--format=%U", *places, check=False).stdout.split())


def test_every_setting_has_an_answer(machine: Machine) -> None:
    """No setting of this systemd is forgotten in what wrap() does with each."""
    section, forgotten = "", []
    for line in machine.run("/lib/systemd/systemd", "--dump-configuration-items").stdout.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and section in ("Unit", "Service", "Socket"):
            name = line.partition("=")[0]
            if handling_of(section, name) is None:
                forgotten.append((section, name))
    assert forgotten == []


def test_groups_of_system_calls(machine: Machine) -> None:
    """The groups in which our system calls are said to be are those of this systemd."""
    for group in sorted({group for groups in CALLS.values() for group in groups} - {"@known"}):
        listed: set[str] = set()
        asked = [group]
        while asked:
            words = machine.run("systemd-analyze", "syscall-filter", "--no-pager", asked.pop()).stdout.split("\n")
            names = [word.strip() for word in words[1:] if word.strip() and "#" not in word]
            asked += [name for name in names if name.startswith("@")]
            listed |= set(names)
        assert {name for name, groups in CALLS.items() if group in groups} <= listed, group


DROPS = "ExecStart=/usr/bin/setpriv --reuid=games --regid=games --clear-groups /usr/bin/sleep infinity"
SANDBOXES = {
    "no CAP_KILL": [DROPS, "CapabilityBoundingSet=CAP_SETUID CAP_SETGID"],
    "no CAP_KILL, denied": [DROPS, "CapabilityBoundingSet=~CAP_KILL"],
    "no executable but its own": [SLEEP, "NoExecPaths=/", "ExecPaths=/usr/bin/sleep /usr/lib /lib"],
    "an empty /run": [SLEEP, "TemporaryFileSystem=/run"],
    "no library of Python": [SLEEP, "TemporaryFileSystem=/usr/lib/python3"],
    "no memfd": [SLEEP, "SystemCallFilter=~@ipc", "SystemCallFilter=pipe pipe2"],
    "few system calls": [SLEEP, "SystemCallFilter=@basic-io @file-system"],
    "few tasks": [SLEEP, "TasksMax=2"],
    "few processes": [SLEEP, "User=games", "LimitNPROC=2"],
    "few files": [SLEEP, "LimitNOFILE=8"],
    "no device": [SLEEP, "DevicePolicy=strict"],
    "no AF_UNIX": [SLEEP, "RestrictAddressFamilies=AF_INET"],
    "a log that is written over": [SLEEP, "StandardOutput=truncate:/run/app.log"],
}


@pytest.mark.parametrize("lines", SANDBOXES.values(), ids=SANDBOXES.keys())
def test_room_for_a_supervisor(machine: Machine, lines: list[str]) -> None:
    """It starts, is reloaded, and stops by its first signal, where a supervisor alone would not."""
    make(machine, *lines)
    done = sdsupervise(machine, "wrap", "--write", "app")
    assert remains(done) == "systemctl start app"
    make_quick(machine)
    machine.run("systemctl", "start", "app")
    lint = sdsupervise(machine, "lint", "app")
    assert (lint.returncode, lint.stdout) == (0, "")
    machine.run("systemctl", "reload", "app")
    machine.run("systemctl", "stop", "app")
    assert machine.show("app.service", "Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}
    log = machine.run("journalctl", "--quiet", "--output=cat", "--unit=app").stdout
    assert "SIGKILL" not in log and "Permission denied" not in log, log


def test_a_reload_does_not_make_it_root(machine: Machine) -> None:
    """With PermissionsStartOnly= the other commands stay root's, and the service stays its user's."""
    make(machine, SLEEP, "User=games", "PermissionsStartOnly=true", "ExecStartPre=/bin/sh -c 'id -u >/srv/stops'")
    assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
    make_quick(machine)
    machine.run("systemctl", "start", "app")
    assert machine.read("/srv/stops") == "0\n"
    for _ in range(2):
        machine.run("systemctl", "reload", "app")
        assert users(machine, "app.service") == {"games"}


def test_the_switch_stops_by_the_old_way(machine: Machine) -> None:
    """The process that runs is stopped as its unit says, both by the switch and by the switch back; what is stopped
    with it is started again."""
    machine.write("/srv/stopped", STOPPED, mode=0o755)
    make(machine, "ExecStart=/srv/stopped", "ExecStop=/bin/sh -c 'echo ExecStop >>/srv/stops'", "KillSignal=SIGINT")
    machine.write("/etc/systemd/system/needs-app.service", f"[Unit]\nRequires=app.service\n[Service]\n{SLEEP}\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "needs-app")
    machine.run("systemctl", "start", "app")
    command = remains(sdsupervise(machine, "wrap", "--write", "app"))
    assert command == (
        "systemctl stop app && systemctl daemon-reload && systemctl start app && systemctl start needs-app"
    )
    # Nothing of it is for the process that runs.
    assert machine.show("app.service", "KillSignal", "Type") == {"KillSignal": "2", "Type": "simple"}
    machine.run("sh", "-c", command)
    assert machine.read("/srv/stops") == "ExecStop\nSIGINT\n"
    assert machine.show("app.service", "ActiveState", "Type") == {"ActiveState": "active", "Type": "notify"}
    assert machine.show("needs-app.service", "ActiveState") == {"ActiveState": "active"}
    machine.run("systemctl", "reload", "app")
    assert machine.read("/srv/stops") == "ExecStop\nSIGINT\nSIGINT\n"
    machine.run("sh", "-c", remains(sdsupervise(machine, "unwrap", "app")))
    assert machine.read("/srv/stops") == "ExecStop\nSIGINT\nSIGINT\nSIGINT\n"
    assert machine.show("app.service", "ActiveState", "Type") == {"ActiveState": "active", "Type": "simple"}


def test_a_command_that_is_killed_at_once(machine: Machine) -> None:
    """What the unit stops by SIGKILL is not waited for."""
    make(machine, 'ExecStart=/usr/bin/python3 -c "import signal; signal.signal(15, 1); signal.pause()"', "KillSignal=9")
    assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
    make_quick(machine)
    for verb in ("start", "reload", "stop"):
        machine.run("systemctl", verb, "app", timeout=50)  # the unit lets a stop take 90 s
    assert machine.show("app.service", "Result") == {"Result": "success"}


def test_it_gives_up_as_the_unit_did(machine: Machine) -> None:
    """The limit of starts that a unit has is that of its command, and then it stays down."""
    make(machine, "ExecStart=/bin/sh -c 'sleep 0.5; exit 3'", "Restart=always", "StartLimitBurst=2")
    assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
    make_quick(machine)
    machine.run("systemctl", "start", "app")
    machine.run("sh", "-c", "journalctl --follow --lines=all --unit=app | grep -m 1 'Failed with result'")
    found = machine.show("app.service", "ActiveState", "NRestarts", "ExecMainStatus")
    assert found == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "75"}


def test_a_program_without_a_path(machine: Machine) -> None:
    """The same program runs as before: systemd does not look it up in the PATH of the unit."""
    for place in ("/srv", "/usr/local/bin"):
        machine.write(f"{place}/named-app", f"#!/bin/sh\necho {place} >>/srv/stops\nexec sleep infinity\n", mode=0o755)
    make(machine, "ExecStart=named-app", "Environment=PATH=/srv:/usr/bin:/bin", name="app-path.service")
    try:
        machine.run("systemctl", "start", "app-path")
        machine.run("sh", "-c", remains(sdsupervise(machine, "wrap", "--write", "app-path")))
        assert machine.read("/srv/stops") == "/usr/local/bin\n/usr/local/bin\n"
        machine.remove("/usr/local/bin/named-app")
        machine.run("sh", "-c", remains(sdsupervise(machine, "unwrap", "app-path")), check=False)
        assert machine.show("app-path.service", "ExecMainStatus") == {"ExecMainStatus": "203"}
        done = sdsupervise(machine, "wrap", "app-path")
        assert (done.returncode, "Write the path of named-app" in done.stderr) == (78, True)
    finally:
        machine.run("rm", "-f", "/srv/named-app", "/usr/local/bin/named-app")


def test_a_limit_of_starts_that_systemd_ignores(machine: Machine) -> None:
    """StartLimitIntervalSec= is none of [Service]: what was started again and again still is."""
    make(
        machine,
        "ExecStart=/bin/sh -c 'echo >>/srv/stops; exit 3'",
        *("Restart=always", "RestartSec=1", "StartLimitIntervalSec=1h", "StartLimitBurst=11"),
    )
    assert machine.show("app.service", "StartLimitIntervalUSec") == {"StartLimitIntervalUSec": "10s"}
    assert "--crash-limit 11 --crash-window 10 " in sdsupervise(machine, "wrap", "app").stdout


def test_a_unit_of_a_generator(machine: Machine) -> None:
    """A unit that a generator writes is wrapped like any other."""
    script = f"#!/bin/sh\nprintf '[Service]\\n{SLEEP}\\n' >$1/app.service\n"
    machine.write("/etc/systemd/system-generators/app", script, mode=0o755)
    machine.run("systemctl", "daemon-reload")
    assert machine.show("app.service", "FragmentPath")["FragmentPath"] == "/run/systemd/generator/app.service"
    try:
        assert remains(sdsupervise(machine, "wrap", "--write", "app")) == "systemctl start app"
        assert machine.show("app.service", "Type") == {"Type": "notify"}
    finally:
        machine.remove("/etc/systemd/system-generators/app")


def test_an_alias(machine: Machine) -> None:
    """The drop-in belongs to the unit of an alias: systemd would not read it elsewhere."""
    make(machine, SLEEP)
    machine.symlink(UNIT, "/etc/systemd/system/app-alias.service")
    machine.run("systemctl", "daemon-reload")
    done = sdsupervise(machine, "wrap", "--write", "app-alias")
    assert done.stdout.startswith(f"wrote {DROP_IN.format('app.service')}\n")
    machine.run("systemctl", "start", "app-alias")
    assert machine.show("app.service", "Type") == {"Type": "notify"}
    assert sdsupervise(machine, "lint", "app-alias").returncode == 0
    assert sdsupervise(machine, "unwrap", "app-alias").stdout.startswith(f"removed {DROP_IN.format('app.service')}\n")


def test_a_template_and_an_instance(machine: Machine) -> None:
    """A template is wrapped for all its instances, an instance for itself; sockets of a template are seen."""
    make(machine, SLEEP, name="app@.service")
    machine.run("systemctl", "start", "app@1", "app@2")
    command = remains(sdsupervise(machine, "wrap", "--write", "app@"))
    assert command == "systemctl stop app@1 app@2 && systemctl daemon-reload && systemctl start app@1 app@2"
    machine.run("sh", "-c", command)
    assert [machine.show(f"app@{name}.service", "Type")["Type"] for name in "12"] == ["notify", "notify"]
    assert sdsupervise(machine, "lint", "app@1", "app@2").stdout == ""
    machine.run("sh", "-c", remains(sdsupervise(machine, "unwrap", "app@")))
    command = remains(sdsupervise(machine, "wrap", "--write", "app@1"))
    assert command == "systemctl stop app@1 && systemctl daemon-reload && systemctl start app@1"
    machine.run("sh", "-c", command)
    assert [machine.show(f"app@{name}.service", "Type")["Type"] for name in "12"] == ["notify", "simple"]
    machine.write("/etc/systemd/system/app@.socket", "[Socket]\nListenStream=/run/app-%i\n")
    machine.run("systemctl", "daemon-reload")
    assert "it still gets the sockets of app@.socket" in sdsupervise(machine, "wrap", "app@").stderr
    machine.write("/etc/systemd/system/app.socket", "[Socket]\nListenStream=/run/app\nAccept=yes\n")
    machine.run("systemctl", "daemon-reload")
    done = sdsupervise(machine, "wrap", "app@")
    assert (done.returncode, "app.socket has Accept=yes" in done.stderr) == (78, True)


def test_a_later_file_undoes_it(machine: Machine) -> None:
    """Nothing is written that another file undoes; one that comes later is an error to lint."""
    make(machine, SLEEP)
    later = "/etc/systemd/system/app.service.d/zzz.conf"
    machine.write(later, "[Service]\nNotifyAccess=none\n")
    machine.run("systemctl", "daemon-reload")
    done = sdsupervise(machine, "wrap", "--write", "app")
    assert done.returncode == 78
    assert f"{later}:2 has NotifyAccess=none" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not machine.exists(DROP_IN.format("app.service"))
    machine.remove(later)
    machine.run("systemctl", "daemon-reload")
    assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
    machine.write(later, "[Service]\nNotifyAccess=none\n")
    machine.run("systemctl", "daemon-reload")
    done = sdsupervise(machine, "lint", "app")
    assert done.returncode == 1
    assert re.search(r"error: .*zzz.conf:2 has NotifyAccess=none, which undoes NotifyAccess=main", done.stdout)


def test_what_systemd_does_not_see_is_taken_back(machine: Machine) -> None:
    """What systemd has read is compared with what was meant: here it has another file that was not there before."""
    make(machine, SLEEP)
    # A file in the directory of all services, which appears when systemd reads the drop-in.
    hook = "#!/bin/sh\nmkdir -p /run/systemd/system/service.d\n"
    hook += "printf '[Service]\\nType=simple\\n' >/run/systemd/system/service.d/zzz.conf\n"
    machine.write("/etc/systemd/system-generators/late", hook, mode=0o755)
    try:
        done = sdsupervise(machine, "wrap", "--write", "app")
        assert done.returncode == 78
        assert "was written and taken back: /run/systemd/system/service.d/zzz.conf:2 has Type=simple" in done.stderr
        assert not machine.exists(DROP_IN.format("app.service"))
    finally:
        machine.run("rm", "-r", "/etc/systemd/system-generators/late", "/run/systemd/system/service.d")


def test_a_transient_unit(machine: Machine) -> None:
    """A unit that is gone when it stops cannot be wrapped."""
    machine.run("systemd-run", "--unit=app", "sleep", "infinity")
    done = sdsupervise(machine, "wrap", "--write", "app")
    assert (done.returncode, "is a transient unit" in done.stderr) == (78, True)


# Does what the next line of a FIFO says.
OBEYS = """\
#!/bin/sh
read deed </srv/stops
eval "$deed"
"""
ENDS = {
    "clean": (["Restart=on-failure"], "exit 0", ("inactive", "success", None)),
    "by SIGTERM": (["Restart=on-failure"], "kill -s TERM $$", ("inactive", "success", None)),
    "by a clean status": (["Restart=on-failure", "SuccessExitStatus=4"], "exit 4", ("inactive", "success", None)),
    "prevented": (["Restart=on-failure", "RestartPreventExitStatus=3"], "exit 3", ("failed", "exit-code", "3")),
    "prevented always": (["Restart=always", "RestartPreventExitStatus=3"], "exit 3", ("failed", "exit-code", "3")),
    "clean and prevented": (["Restart=always", "RestartPreventExitStatus=0"], "exit 0", ("inactive", "success", None)),
    "normal": (["Restart=on-abnormal"], "exit 5", ("failed", "exit-code", "5")),
    "no abort": (["Restart=on-abort", "SuccessExitStatus=4"], "exit 4", ("inactive", "success", None)),
}


@pytest.mark.parametrize("way", ["unwrapped", "wrapped", "reloaded"])
@pytest.mark.parametrize(("lines", "deed", "expected"), ENDS.values(), ids=ENDS.keys())
def test_it_ends_as_it_did(
    machine: Machine, lines: list[str], deed: str, expected: tuple[str, str, str | None], way: str
) -> None:
    """Once killed, it starts again; after an end that is final for the unit, systemd sees what it saw before."""
    machine.write("/srv/stopped", OBEYS, mode=0o755)
    machine.run("mkfifo", "/srv/stops")
    make(machine, "ExecStart=/srv/stopped", "RestartSec=100ms", *lines)
    if way != "unwrapped":
        assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
        make_quick(machine)
        assert sdsupervise(machine, "lint", "app").stdout == ""
    machine.run("systemctl", "start", "app")
    if way == "reloaded":
        machine.run("systemctl", "reload", "app")
    journal = machine.follow_journal("app.service")
    for each in ("kill -s KILL $$", deed):
        machine.run("sh", "-c", f"echo '{each}' >/srv/stops")
        if each != deed:
            journal.wait_for("SIGKILL" if way != "unwrapped" else "Started app.service")
    journal.wait_for("Deactivated successfully" if expected[0] == "inactive" else "Failed with result")
    found = machine.show("app.service", "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    status = expected[2] or found["ExecMainStatus"]  # systemd forgets these after a clean end
    restarts = found["NRestarts"] if way == "unwrapped" else "0"
    assert found == {
        **{"ActiveState": expected[0], "Result": expected[1], "ExecMainStatus": status, "NRestarts": restarts}
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_supervisor_that_is_killed_starts_again(machine: Machine, number: signal.Signals) -> None:
    """The Restart= that is kept for the command is one for the supervisor, too."""
    make(machine, SLEEP, "Restart=on-failure")
    assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
    make_quick(machine)
    machine.run("systemctl", "start", "app")
    journal = machine.follow_journal("app.service")
    machine.kill(int(machine.show("app.service", "MainPID")["MainPID"]), number)
    journal.wait_for("Scheduled restart job")
    journal.wait_for("Started app.service")
    assert machine.show("app.service", "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "1"}


@pytest.mark.parametrize("deed", ["exit 0", "kill -s TERM $$"])
def test_it_may_have_nothing_to_do(machine: Machine, deed: str) -> None:
    """A clean end before `--ready-after` is a good start and a good end, as before."""
    machine.write("/srv/stopped", f"#!/bin/sh\n{deed}\n", mode=0o755)
    make(machine, "ExecStart=/srv/stopped", "Restart=on-failure")
    assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
    machine.run("systemctl", "start", "--wait", "app")
    assert machine.show("app.service", "ActiveState", "Result", "NRestarts") == {
        **{"ActiveState": "inactive", "Result": "success", "NRestarts": "0"}
    }


@pytest.mark.parametrize("way", ["unwrapped", "wrapped", "reloaded"])
def test_a_broken_pipe(machine: Machine, way: str) -> None:
    """systemd ignores SIGPIPE in a service, and a supervisor does so in its command, in every generation."""
    make(machine, "ExecStart=/bin/sh -c 'kill -s PIPE $$$$ && echo it lives on; exec sleep infinity'")
    if way != "unwrapped":
        assert sdsupervise(machine, "wrap", "--write", "app").returncode == 0
        make_quick(machine)
    journal = machine.follow_journal("app.service")
    machine.run("systemctl", "start", "app")
    journal.wait_for("it lives on")
    if way == "reloaded":
        machine.run("systemctl", "reload", "app")
        journal.wait_for("it lives on")
