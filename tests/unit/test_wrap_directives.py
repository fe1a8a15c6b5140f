"""What `unit wrap` and `unit lint` make of the settings of a unit, kind by kind: by its text alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdsupervise.errors import CannotWrap
from sdsupervise.unitfiles import apparmor, text
from sdsupervise.unitfiles.drop_in import DropIn, why_undone, with_drop_in
from sdsupervise.unitfiles.lint import lint
from sdsupervise.unitfiles.paths import OwnFiles
from sdsupervise.unitfiles.subject import Host
from sdsupervise.unitfiles.wrap import wrap

OURS = "Type=notify\nExecStart=/usr/bin/sdsupervise run -- /bin/any\nExecReload=/usr/bin/sdsupervise reload\n"
IN_A_HOME = OwnFiles(("/home/joe/venv/bin/sdsupervise", "/home/joe/venv/bin/python3"), ("/home/joe/venv/lib",))


def parsed(*lines: str) -> text.UnitText:
    """A unit with these lines of [Service]."""
    return text.parse("app.service", "\n".join(["[Service]", *lines, ""]), "/etc/systemd/system/app.service")


def wrapped(*lines: str) -> DropIn:
    """The drop-in for a unit with these lines of [Service], in whose result lint() finds nothing."""
    unit = parsed("ExecStart=/bin/any", *lines)
    drop_in = wrap(unit)
    assert lint(with_drop_in(unit, drop_in)) == []
    return drop_in


def options(*lines: str) -> str:
    """The options of the supervisor."""
    start = next(line for line in wrapped(*lines).settings if line.startswith("ExecStart=/"))
    return start.partition(" run ")[2].partition(" -- ")[0]


def found(*lines: str) -> dict[str, str]:
    """The severity of each finding of lint() in a unit that runs us, by its setting."""
    unit = text.parse("app.service", f"[Service]\n{OURS}" + "\n".join(lines))
    return {finding.key: finding.severity for finding in lint(unit)}


def test_a_reload_has_the_rights_of_the_start() -> None:
    """PermissionsStartOnly= would make the service root at its first reload; its other commands keep their rights."""
    lines = (
        "User=games",
        "PermissionsStartOnly=true",
        "ExecStartPre=-/bin/mkdir -p '/run/a b' ; !/bin/chown games /run/x",
        "ExecStopPost=@/bin/rm rm /run/x",
    )
    drop_in = wrapped(*lines)
    start = drop_in.settings.index("PermissionsStartOnly=no")
    assert drop_in.settings[start + 1 : start + 6] == (
        "ExecStartPre=",
        'ExecStartPre=-+/bin/mkdir -p "/run/a b"',
        "ExecStartPre=+/bin/chown games /run/x",
        "ExecStopPost=",
        "ExecStopPost=@+/bin/rm rm /run/x",
    )
    assert "would make the service root" in " ".join(drop_in.notes)
    assert found("User=games", "PermissionsStartOnly=yes")["PermissionsStartOnly"] == "error"
    assert found("RootDirectory=/srv", "RootDirectoryStartOnly=yes")["RootDirectoryStartOnly"] == "error"
    for prefix in ("+", "!"):
        reload = f"ExecReload=\nExecReload={prefix}/usr/bin/sdsupervise reload"
        assert found("User=games", reload)["ExecReload"] == "error"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["CapabilityBoundingSet=CAP_SETUID CAP_SETGID"], ["CapabilityBoundingSet=CAP_KILL"]),
        (["CapabilityBoundingSet=~CAP_KILL CAP_SYS_ADMIN"], ["CapabilityBoundingSet=CAP_KILL"]),
        (["User=a", "AmbientCapabilities=CAP_SETUID"], ["AmbientCapabilities=CAP_KILL"]),
        (["CapabilityBoundingSet="], []),  # nothing can change its user
        (["CapabilityBoundingSet=CAP_NET_BIND_SERVICE"], []),
        (["CapabilityBoundingSet=CAP_SETUID", "CapabilityBoundingSet=cap_kill"], []),
        (["CapabilityBoundingSet=~CAP_SYS_ADMIN"], []),
        (["User=a", "CapabilityBoundingSet=CAP_SETUID"], []),
        ([], []),
    ],
)
def test_capabilities(lines: list[str], expected: list[str]) -> None:
    """A supervisor must be able to stop a command that has changed its user."""
    drop_in = wrapped(*lines)
    assert [line for line in drop_in.settings if "CAP_" in line] == expected
    assert ("CapabilityBoundingSet" in found(*lines)) == bool(expected)


def test_becoming_a_user() -> None:
    """A supervisor that changes its user needs the rights for that."""
    unit = text.parse("app.service", f"[Service]\n{OURS}CapabilityBoundingSet=CAP_KILL\n")
    assert "CapabilityBoundingSet" in [finding.key for finding in lint(unit, user="games")]


@pytest.mark.parametrize(
    ("lines", "missing"),
    [
        (["SystemCallFilter=@system-service"], ""),
        (["SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"], ""),
        (["SystemCallFilter=~@clock @mount @setuid"], ""),
        (["SystemCallFilter=~@ipc", "SystemCallFilter=pipe pipe2"], "memfd_create"),
        (["SystemCallFilter=~fchmodat"], "fchmodat"),
        (["SystemCallFilter=~@ipc:EPERM kill:ENOSYS", "SystemCallFilter=pipe pipe2"], "kill memfd_create"),
        (["SystemCallFilter=@basic-io @file-system @io-event @ipc @network-io @signal @process"], "flock getpriority"),
    ],
)
def test_system_calls(lines: list[str], missing: str) -> None:
    """A filter lets the supervisor call what it calls, and stays otherwise."""
    drop_in = wrapped(*lines)
    assert [line for line in drop_in.settings if line.startswith("SystemCallFilter=" + missing)] != [] or not missing
    assert any(line.startswith("SystemCallFilter=") for line in drop_in.settings) == bool(missing)
    assert ("SystemCallFilter" in found(*lines)) == bool(missing)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["NoExecPaths=/", "ExecPaths=/bin/any /usr/lib /lib"],
            "ExecPaths=/usr/bin/sdsupervise /usr/bin/python3",
        ),
        (["NoExecPaths=/usr/bin"], "ExecPaths=/usr/bin/sdsupervise /usr/bin/python3"),
        (["NoExecPaths=/", "ExecPaths=/usr"], ""),
        (["NoExecPaths=/srv"], ""),
        (["TemporaryFileSystem=/usr/lib/python3"], "BindReadOnlyPaths=/usr/lib/python3"),
        (["TemporaryFileSystem=/usr:ro", "BindReadOnlyPaths=/usr/bin /usr/lib"], ""),
        (["TemporaryFileSystem=/run"], "BindReadOnlyPaths=/run/systemd/notify /run/systemd/journal"),
        (["TemporaryFileSystem=/run"], "BindPaths=/run/sdsupervise/%N"),
        (["TemporaryFileSystem=/var"], ""),
        (["SystemCallArchitectures=x86"], "SystemCallArchitectures=native"),
        (["DevicePolicy=strict", "DeviceAllow=/dev/null rw"], "DeviceAllow=/dev/urandom rw"),
        (["TasksMax=10"], "TasksMax=84"),
        (["TasksMax=50%"], ""),
        (["LimitNPROC=10"], "LimitNPROC=84"),
        (["LimitNPROC=infinity"], ""),
        (["LimitNOFILE=16:32"], "LimitNOFILE=128"),
    ],
)
def test_room(lines: list[str], expected: str) -> None:
    """What keeps a supervisor from running is found before, and room is made for it."""
    drop_in = wrapped(*lines)
    key = lines[0].partition("=")[0]
    if expected:
        assert expected in drop_in.settings
        assert key in found(*lines)
    else:
        keys = ("ExecPaths", "BindReadOnlyPaths", "TasksMax", "LimitNPROC")
        assert not [line for line in drop_in.settings if line.partition("=")[0] in keys]


def test_where_sdsupervise_is_elsewhere() -> None:
    """The paths are those of the sdsupervise that runs."""
    unit = parsed("ExecStart=/bin/any", "NoExecPaths=/home")
    assert f"ExecPaths={' '.join((*IN_A_HOME.programs, *IN_A_HOME.libraries))}" in wrap(unit, own=IN_A_HOME).settings
    for line in ("ProtectHome=yes", "ProtectHome=tmpfs", "InaccessiblePaths=-/home", "BindPaths=/srv:/home/joe"):
        with pytest.raises(CannotWrap, match=r"hides /home/joe/venv/bin/sdsupervise"):
            wrap(parsed("ExecStart=/bin/any", line), own=IN_A_HOME)
        unit = text.parse("app.service", f"[Service]\n{OURS}{line}\n")
        assert [each.key for each in lint(unit, host=Host(own=IN_A_HOME)) if "hides" in each.problem]
    for line in ("ProtectHome=read-only", "BindPaths=/srv:/home/jim", "BindPaths=/home/joe"):
        wrap(parsed("ExecStart=/bin/any", line), own=IN_A_HOME)


REFUSED = [
    ("RemainAfterExit=yes", "its command may end"),
    ("ExitType=cgroup", "its first process may end"),
    ("Restart=on-success", "must stay down"),
    ("Restart=on-watchdog", "which --restart does not have"),
    ("RestartPreventExitStatus=3 SIGABRT", "RestartPreventExitStatus=SIGABRT, but a supervisor judges only by"),
    ("Restart=on-failure\nSuccessExitStatus=TERM KILL", "SuccessExitStatus=SIGKILL, but a supervisor judges only by"),
    ("Restart=on-failure\nRestartForceExitStatus=SIGTERM", "RestartForceExitStatus=SIGTERM, but a supervisor judges"),
    ("Restart=on-failure\nSuccessExitStatus=TEMPFAIL", "SuccessExitStatus=75 and Restart=on-failure"),
    ("IgnoreSIGPIPE=no", "begin with /usr/bin/env --default-signal=PIPE"),
    ("SendSIGKILL=no", "nothing may kill any"),
    ("KillSignal=SIGRTMIN+3", "SIGRTMIN"),
    ("KillSignal=SIGCONT", "SIGCONT is none of them"),
    ("RestartKillSignal=18", "SIGCONT is none of them"),
    ("KillMode=process\nDelegate=yes", "outlives a restart"),
    ("StandardInputText=hello", "reads its standard input"),
    ("StandardOutput=fd:log", "which systemd does not give to a reload"),
    ("StandardError=socket", "which systemd does not give to a reload"),
    ("OpenFile=/etc/x:x", "but not to a reload"),
    ("RuntimeDirectoryMode=0777", "every user could replace"),
    ("RootImage=/srv/x.raw", "sdsupervise does not exist there"),
    ("TemporaryFileSystem=/", "leaves nothing of the machine"),
    ("InaccessiblePaths=/usr", "hides /usr/bin/sdsupervise"),
    ("InaccessiblePaths=-/run/systemd", "hides /run/systemd/notify"),
    ("BindReadOnlyPaths=/srv/usr:/usr", "hides /usr/bin/sdsupervise"),
    ("MountImages=/srv/usr.raw:/usr", "hides /usr/bin/sdsupervise"),
    ("AppArmorProfile=-any", "and let ExecStart= begin with /usr/bin/aa-exec -p any"),
    ("SELinuxContext=any_t", "and let ExecStart= begin with /usr/bin/runcon any_t"),
    ("SmackProcessLabel=any", "is for the program"),
    ("PAMName=login", "opens a session for ExecReload= too"),
    ("CPUSchedulingResetOnFork=yes", "takes the scheduling policy"),
    ("UnsetEnvironment=HOME NOTIFY_SOCKET", "without NOTIFY_SOCKET"),
    ("LimitAS=16M", "too little for the supervisor's Python"),
    ("LimitDATA=1000000", "too little for the supervisor's Python"),
    ("LimitFSIZE=0", "too little for the files that the supervisor writes"),
    ("LimitFSIZE=4K:512K", "too little for the files that the supervisor writes"),
    ("TimerSlackNSec=1s", "delays every time limit of the supervisor"),
    ("TimerSlackNSec=100000000", "delays every time limit of the supervisor"),
    ("UMask=0777", "may not read the files that it writes"),
    ("UMask=400", "may not read the files that it writes"),
    ("Environment=A=1 PYTHONHOME=/srv/venv", "begin with /usr/bin/env PYTHONHOME=VALUE"),
    ("PassEnvironment=PYTHONHOME", "begin with /usr/bin/env PYTHONHOME=VALUE"),
    ("Environment=PYTHONPLATLIBDIR=lib64", "its own Python does not work"),
    ("Environment=PYTHONINSPECT=1", "its own Python does not work"),
    ("Environment=RUNTIME_DIRECTORY=/run/any", "it does not find systemd"),
    ("Environment=NOTIFY_SOCKET=/run/any", "it does not find systemd"),
]


@pytest.mark.parametrize(("lines", "why"), REFUSED, ids=[lines.replace("\n", " ") for lines, _ in REFUSED])
def test_refusals(lines: str, why: str) -> None:
    """What a supervisor cannot keep is refused in one sentence, and lint() says that too, not to try it."""
    unit = parsed("ExecStart=/bin/any", *lines.split("\n"))
    with pytest.raises(CannotWrap, match=re.escape(why)) as refused:
        wrap(unit)
    sentence = str(refused.value)
    assert sentence.endswith(".") and "\n" not in sentence
    (finding,) = lint(unit)
    assert finding.fix == f"sdsupervise unit wrap app.service refuses it: {sentence[:-1]}"


def test_a_python_of_a_file() -> None:
    """PYTHONHOME in a file of EnvironmentFile= keeps the supervisor from starting, too; PYTHONPATH does not."""
    unit = parsed("ExecStart=/bin/any", "EnvironmentFile=/srv/app.env", "LimitFSIZE=1M")
    with pytest.raises(CannotWrap, match="begin with /usr/bin/env PYTHONHOME=VALUE"):
        wrap(unit, variables={"PYTHONHOME": "/srv/venv"})
    wrap(unit, variables={"PYTHONPATH": "/srv/lib"})


@pytest.mark.parametrize("program", ["sshd", "dockerd", "containerd", "libvirtd", "cron"])
def test_what_must_outlive_a_restart(program: str) -> None:
    """Programs whose processes outlive a restart are refused; what else has KillMode=process gets a note."""
    with pytest.raises(CannotWrap, match="outlives a restart"):
        wrap(parsed(f"ExecStart=/usr/sbin/{program} -D", "KillMode=process"))
    with pytest.raises(CannotWrap, match=f"what {program} has started outlives a restart"):
        wrap(parsed(f"ExecStart=/usr/bin/python3 -u /usr/bin/{program}", "KillMode=process"))
    with pytest.raises(CannotWrap, match="; sdsupervise import supervisord makes instances of its programs"):
        wrap(parsed("ExecStart=/usr/bin/supervisord -n", "KillMode=process"))
    assert "what any leaves running at a stop or a reload is killed now" in " ".join(wrapped("KillMode=process").notes)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["KillSignal=2"], "--stop-signal SIGINT"),
        (["KillSignal=INT"], "--stop-signal SIGINT"),
        (["KillSignal=SIGQUIT"], "--stop-signal SIGQUIT"),
        (["KillSignal=15"], ""),
        (["KillSignal=SIGKILL"], "--stop-timeout 0"),
        (["KillSignal=9"], "--stop-timeout 0"),
        (["ExecStop=/bin/kill -s QUIT $MAINPID"], "--stop-signal SIGQUIT"),
        (["ExecStop=/bin/kill -INT ${MAINPID}"], "--stop-signal SIGINT"),
        (["ExecStop=/bin/kill -2 $MAINPID"], "--stop-signal SIGINT"),
        (["ExecStop=/bin/sh -c 'kill --signal=SIGUSR1 $MAINPID'"], "--stop-signal SIGUSR1"),
        (["ExecStop=/bin/kill -9 $MAINPID"], "--stop-timeout 0"),
        (["ExecStop=/bin/kill $MAINPID", "KillSignal=SIGINT"], ""),  # SIGTERM comes first
        (["ExecStop=/usr/bin/any stop", "KillSignal=SIGINT"], "--stop-signal SIGINT"),
    ],
)
def test_how_it_is_stopped(lines: list[str], expected: str) -> None:
    """The signal of the unit is that of the supervisor to its command."""
    found_options = options(*lines)
    assert expected in found_options
    assert ("--stop-signal" in found_options) == ("--stop-signal" in expected)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Restart=on-failure"], "--restart on-failure"),
        (["Restart=on-abnormal"], "--restart on-abnormal"),
        (["Restart=on-abort", "SuccessExitStatus=143"], "--restart on-abnormal"),
        (["Restart=always", "RestartPreventExitStatus=0 255"], "--restart-prevent 0,255"),
        (["RestartPreventExitStatus=CONFIG NOPERM"], "--restart-prevent 77,78"),
        (["Restart=on-failure", "SuccessExitStatus=143 130"], "--restart on-failure --restart-prevent 130,143"),
        (["Restart=on-failure", "SuccessExitStatus=9 TERM"], "--restart-prevent 9"),
    ],
)
def test_which_ends_are_final(lines: list[str], expected: str) -> None:
    """After which ends it starts again is as the unit said, and lint() agrees with what is written."""
    drop_in = wrapped(*lines)
    assert expected in options(*lines)
    unit = text.parse("app.service", "\n".join(["[Service]", *lines, *drop_in.settings, ""]))
    assert not [found for found in lint(unit) if found.key.startswith("Restart")]


def test_ends_that_are_not_final() -> None:
    """What a unit starts again always needs no option; nor do clean statuses of a unit that does so."""
    for lines in (["Restart=always"], [], ["Restart=always", "SuccessExitStatus=143"]):
        assert "--restart" not in options(*lines)


def test_a_stop_by_a_command_is_said() -> None:
    """What a program's own stop command does, a signal may not do."""
    notes = " ".join(wrapped("ExecStop=/usr/bin/any stop").notes)
    assert "ExecStop was /usr/bin/any stop: it no longer runs" in notes and "check that this is enough" in notes


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "--kill-mode group"),  # systemd's own way
        (["KillMode=mixed"], "--stop-timeout 80"),
        (["Restart=always"], "--delay-before-respawn 0.1"),
        (["Restart=on-failure", "RestartSec=1min"], "--delay-before-respawn 60"),
        (["Restart=always", "RestartSec=0"], "--delay-before-respawn 0.1"),
        (["Restart=always", "RestartSec=1", "RestartMaxDelaySec=9"], "--respawn-backoff-limit 9"),
        (["StartLimitBurst=3", "StartLimitInterval=60s"], "--crash-limit 3 --crash-window 60"),
        (["[Unit]", "StartLimitIntervalSec=5min"], "--crash-limit 5 --crash-window 300"),
        # systemd ignores the interval there, and the last line counts wherever it is
        (["StartLimitBurst=3", "StartLimitIntervalSec=5min"], "--crash-limit 3 --crash-window 10"),
        (
            ["[Unit]", "StartLimitBurst=3", "StartLimitIntervalSec=5", "[Service]", "StartLimitInterval=7"],
            "--crash-limit 3 --crash-window 7",
        ),
        (["StartLimitBurst=4", "[Unit]", "StartLimitBurst=3"], "--crash-limit 3 --crash-window 10"),
        (["Type=notify"], "--start-timeout 90 --reload-timeout 90"),
        (["Type=notify", "TimeoutStartSec=2min"], "--start-timeout 120 --reload-timeout 120"),
        (["Type=notify", "TimeoutStartSec=infinity"], "--start-timeout 3600 --reload-timeout 3600"),
        (["Type=notify", "TimeoutSec=20"], "--start-timeout 20"),
    ],
)
def test_times_and_limits(lines: list[str], expected: str) -> None:
    """The unit's own times and limits are those of the supervisor."""
    assert expected in options(*lines)


@pytest.mark.parametrize(
    "lines",
    [["RestartSec=3"], ["Restart=always", "RestartSec=5"], ["StartLimitBurst=0"], ["StartLimitIntervalSec=5min"]],
)
def test_limits_that_are_none(lines: list[str]) -> None:
    """What says nothing, or the same as a supervisor does by itself, adds nothing."""
    assert not re.search("delay-before-respawn|crash-limit", options(*lines))


@pytest.mark.parametrize(
    ("lines", "setting", "note"),
    [
        (["Restart=no"], "Restart=always", "Restart was no: the supervisor starts the command again after every exit"),
        ([], "Restart=always", "Restart was no"),
        (["Restart=on-failure"], "Restart=on-failure", "--restart on-failure"),
        (["Restart=on-abnormal"], "Restart=on-abnormal", "--restart on-abnormal"),
        (["RestartPreventExitStatus=70"], "", "has 70: the supervisor exits with it when it fails itself, too"),
        (["StartLimitBurst=3"], "RestartPreventExitStatus=75 78", "the unit gave up after so many starts within 10 s"),
        (["SuccessExitStatus=1 CONFIG"], "SuccessExitStatus=", "a supervisor reports failures with these statuses"),
        (["SuccessExitStatus=143"], "SuccessExitStatus=SIGTERM", ""),
        (["SendSIGHUP=yes"], "SendSIGHUP=no", "would pass the SIGHUP on"),
        (["FinalKillSignal=SIGQUIT"], "", "FinalKillSignal=SIGQUIT is for the supervisor"),
        (["Type=notify", "TimeoutStartSec=40"], "TimeoutStartSec=90", "--start-timeout 40"),
        (["Type=notify"], "TimeoutStartSec=120", ""),
        (
            ["Type=notify-reload"],
            "Type=notify",
            "--reload-signal SIGHUP: Type was notify-reload, so a reload passes the",
        ),
        (["Type=notify-reload", "ReloadSignal=10"], "Type=notify", "--reload-signal SIGUSR1: Type was notify-reload"),
        (["Type=notify-reload", "ReloadSignal=SIGRTMIN"], "Type=notify", "Type was notify-reload: a reload now waits"),
        (["RuntimeDirectory=a"], "RuntimeDirectoryPreserve=restart", "a is kept over a restart"),
        (["RuntimeDirectoryMode=2775"], "", "the group may replace the supervisor's socket"),
        (["FileDescriptorStoreMax=8"], "FileDescriptorStoreMax=64", "what the command stores there is not kept"),
        (["StandardOutput=truncate:/var/log/a"], "StandardOutput=append:/var/log/a", "StandardOutput was truncate"),
        (["StandardError=file:/var/log/a"], "StandardError=append:/var/log/a", "StandardError was file"),
        (["StandardError=null"], "", "what the supervisor reports is lost, too"),
        (["StandardOutput=null", "StandardError=inherit"], "", "what the supervisor reports is lost, too"),
        (["StandardOutput=append:/var/log/a"], "", "what the supervisor reports is in /var/log/a, too"),
        (["OOMPolicy=kill"], "OOMPolicy=continue", "OOMPolicy was kill"),
        ([], "SyslogIdentifier=any", ""),
        (["ExecCondition=/bin/true"], "", "ExecCondition runs at a start, but not at a reload"),
        (["ExecStartPost=/bin/x $MAINPID"], "", "its $MAINPID is the supervisor"),
        (["ExecStopPost=/bin/x"], "", "ExecStopPost runs at a stop, but not at a reload"),
        (["MemoryMax=100M"], "", "MemoryMax must have room for a second supervisor in a reload"),
        (["Delegate=yes"], "", "Delegate= gives any a control group"),
        (["RestrictFileSystems=ext4"], "", "RestrictFileSystems= holds for the supervisor"),
        (["[Unit]", "OnFailure=alert.service"], "", "OnFailure=alert.service waits for the end of the supervisor"),
        (["[Unit]", "ReloadPropagatedFrom=b.service"], "", "a reload of b.service reloads this unit"),
    ],
)
def test_changes_and_notes(lines: list[str], setting: str, note: str) -> None:
    """What is changed or means something else is said."""
    drop_in = wrapped(*lines)
    assert setting in (*drop_in.settings, "")
    assert note in " ".join(drop_in.notes)


@pytest.mark.parametrize("line", ["SyslogIdentifier=x", "RuntimeDirectoryPreserve=yes"])
def test_what_stays(line: str) -> None:
    """What is as good as ours stays."""
    key = line.partition("=")[0]
    assert not [each for each in wrapped(line).settings if each.startswith(f"{key}=")]


def test_all_rights() -> None:
    """With "+" systemd applies no sandbox to the command, so nothing of it is in the way."""
    unit = parsed("ExecStart=+/bin/any", "NoExecPaths=/", "CapabilityBoundingSet=CAP_SETUID", "TemporaryFileSystem=/")
    assert not [line for line in wrap(unit).settings if line.startswith(("ExecPaths", "Capability"))]


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (["Environment=PATH=/srv/venv/bin"], "/{}/any"),
        (["Environment=PATH=/srv/venv/bin", "ExecSearchPath=/nowhere", "ExecSearchPath=/none:/{}"], "/{}/any"),
        (["PassEnvironment=PATH"], "/{}/any"),
        (["Environment=A=1"], "any"),
        (["ExecSearchPath=/{}"], "any"),  # systemd makes it the PATH, too
    ],
)
def test_a_program_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], path: str) -> None:
    """systemd does not look it up in the unit's PATH, and a supervisor would: root must not run what is there."""
    place = str(tmp_path).strip("/")
    (tmp_path / "any").touch(0o755)
    monkeypatch.setattr("sdsupervise.unitfiles.wrap.PATH", f"/{place}")
    unit = parsed("ExecStart=any --now", *(line.format(place) for line in lines))
    assert f" -- {path.format(place)} --now\n" in wrap(unit).text
    if path != "any":
        (tmp_path / "any").unlink()
        with pytest.raises(CannotWrap, match="not in the PATH of the unit; it is not there"):
            wrap(unit)


def test_a_program_without_a_path_beside_a_hidden_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of EnvironmentFile= that cannot be read may set PATH."""
    (tmp_path / "any").touch(0o755)
    monkeypatch.setattr("sdsupervise.unitfiles.wrap.PATH", str(tmp_path))
    unit = parsed("ExecStart=any", "EnvironmentFile=/srv/app.env")
    assert f" -- {tmp_path}/any\n" in wrap(unit, variables=None).text
    assert f" -- {tmp_path}/any\n" in wrap(unit, variables={"PATH": "/srv/venv/bin"}).text
    assert " -- any\n" in wrap(unit, variables={}).text


PROFILE = "/usr/sbin/any {\n  #include <abstractions/base>\n  /run/systemd/notify w,\n}\n"


@pytest.mark.parametrize(
    ("files", "lines", "is_refused"),
    [
        ({"usr.sbin.any": PROFILE}, [], True),
        ({"usr.sbin.any": PROFILE}, ["Type=simple"], False),  # it need not notify anybody
        ({"usr.sbin.any": PROFILE}, ["ExecStart=", "ExecStart=/usr/bin/nice /usr/sbin/any"], True),
        ({"usr.sbin.any": PROFILE, "local/usr.sbin.any": "/run/sdsupervise/** w,\n"}, [], False),
        ({"usr.sbin.any": PROFILE.replace("{", "flags=(attach_disconnected, complain) {")}, [], False),
        ({"usr.sbin.any": PROFILE, "disable/usr.sbin.any": ""}, [], False),
        ({"usr.sbin.any": PROFILE, "force-complain/usr.sbin.any": ""}, [], False),
        ({"usr.sbin.other": PROFILE}, [], False),
        ({"any_profile": PROFILE}, ["ExecStart=", "ExecStart=aa-exec -p any_profile -- /usr/sbin/any"], True),
    ],
)
def test_a_profile_of_apparmor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], lines: list[str], is_refused: bool
) -> None:
    """A program whose own profile lets it notify systemd alone would never be ready."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "enabled").write_text("Y\n")
    monkeypatch.setattr(apparmor, "_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(apparmor, "_ENABLED", str(tmp_path / "enabled"))
    unit = parsed("ExecStart=/usr/sbin/any", "Type=notify", *lines)
    if is_refused:
        (name,) = files
        with pytest.raises(CannotWrap, match=f"Write the line `/run/sdsupervise/.. w,` to {tmp_path}/local/{name}"):
            wrap(unit)
        monkeypatch.setattr(apparmor, "_ENABLED", str(tmp_path / "nothing"))
    wrap(unit)


UNDOING = [
    ("KillMode=process", "KillMode"),
    ("NotifyAccess=all", "NotifyAccess"),
    ("WatchdogSec=0", "WatchdogSec"),
    ("ExecStart=\nExecStart=/bin/any", "ExecStart"),
    ("RuntimeDirectory=", "RuntimeDirectory"),
    ("SuccessExitStatus=", "SuccessExitStatus"),
]


@pytest.mark.parametrize(("lines", "key"), UNDOING, ids=[key for _, key in UNDOING])
def test_a_later_file_that_undoes_ours(lines: str, key: str) -> None:
    """A drop-in that sorts after ours is seen before ours is written, and later by lint()."""
    drop_in = wrap(parsed("ExecStart=/bin/any"))
    directory = "/etc/systemd/system/app.service.d"
    fragment = "# /lib/systemd/system/app.service\n[Service]\nExecStart=/bin/any\n"
    for name, is_later in (("override.conf", False), ("zzz.conf", True)):
        unit = text.parse("app.service", f"{fragment}# {directory}/{name}\n[Service]\n{lines}\n")
        merged = with_drop_in(unit, drop_in)
        why = why_undone(merged, drop_in)
        assert bool(why) == is_later
        if is_later:
            assert why.startswith(f"{directory}/{name}:2 has {key}=")
            errors = [finding for finding in lint(merged) if "undoes" in finding.problem]
            assert [finding.key for finding in errors] == [key] and errors[0].severity == "error"
    harmless = text.parse("app.service", f"{fragment}# {directory}/zzz.conf\n[Service]\nSuccessExitStatus=5\nNice=5\n")
    assert why_undone(with_drop_in(harmless, drop_in), drop_in) == ""
    assert why_undone(harmless, drop_in) == "systemd does not read this file"


def test_what_changed_since_the_wrap() -> None:
    """lint() names the settings on which the drop-in depends and that have changed after it was written."""
    drop_in = wrap(parsed("ExecStart=/bin/any --old", "TimeoutStopSec=100"))

    def changed(*lines: str) -> list[str]:
        findings = lint(with_drop_in(parsed(*lines), drop_in))
        return [finding.problem.partition(" of the unit")[0] for finding in findings if "since" in finding.problem]

    assert changed("ExecStart=/bin/any --old", "TimeoutStopSec=100") == []
    assert changed("ExecStart=/bin/any --old", "TimeoutStopSec=100", "Nice=5") == []
    assert changed("ExecStart=/bin/any --new", "TimeoutStopSec=100") == ["ExecStart="]
    assert changed("ExecStart=/bin/any --old", "KillSignal=SIGINT") == ["KillSignal=, TimeoutStopSec="]
