"""What `unit lint` finds in a unit: by its text alone, without a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdsupervise.settings.settings import Settings, check_settings
from sdsupervise.unitfiles import text
from sdsupervise.unitfiles.lint import lint
from sdsupervise.unitfiles.rotation import Rotation
from sdsupervise.unitfiles.subject import Host
from tests.support.units import SHIPPED, UNITS

GOOD = (UNITS / "example" / "counter.service").read_text()
COMMAND = "ExecStart=/usr/bin/sdsupervise run --listen http=127.0.0.1:80,lanes --handover overlap -- /bin/any"


def found(*lines: str, settings: Settings | None = None, host: Host | None = None) -> list[tuple[str, str]]:
    """The severity and setting of each finding in a good unit to which these lines are added."""
    unit = text.parse("counter.service", "\n".join([GOOD, "[Service]", *lines]))
    return [(finding.severity, finding.key) for finding in lint(unit, settings, host or Host())]


@pytest.mark.parametrize("path", sorted(UNITS.glob("example/*.service")), ids=lambda path: path.name)
def test_examples_are_clean(path: Path) -> None:
    """There is nothing to find in any example."""
    assert lint(text.parse(path.name, path.read_text())) == []


def test_the_template_is_clean() -> None:
    """Nor in the template, alone or hardened."""
    template = (UNITS / SHIPPED[0]).read_text()
    for more in ("", (UNITS / "hardened.conf").read_text()):
        assert lint(text.parse("sdsupervise@x.service", template + more)) == []


@pytest.mark.parametrize(
    ("line", "severity", "key"),
    [
        ("Type=simple", "error", "Type"),
        ("Type=forking", "error", "Type"),
        ("Type=notify-reload", "error", "Type"),
        ("NotifyAccess=none", "error", "NotifyAccess"),
        ("NotifyAccess=all", "warning", "NotifyAccess"),
        ("KillMode=process", "error", "KillMode"),
        ("KillMode=control-group", "warning", "KillMode"),
        ("SendSIGKILL=no", "error", "SendSIGKILL"),
        ("KillSignal=SIGQUIT", "error", "KillSignal"),
        ("ExecReload=", "error", "ExecReload"),
        ("ExecReload=\nExecReload=/bin/kill -HUP $MAINPID", "error", "ExecReload"),
        ("ExecReload=\nExecReload=-/usr/bin/sdsupervise reload", "error", "ExecReload"),
        ("ExecReload=\nExecReload=+/usr/bin/sdsupervise reload", "error", "ExecReload"),
        ("ExecStop=/bin/kill $MAINPID", "warning", "ExecStop"),
        ("PIDFile=/run/x.pid", "error", "PIDFile"),
        ("PrivatePIDs=yes", "error", "PrivatePIDs"),
        ("ExitType=cgroup", "warning", "ExitType"),
        ("RemainAfterExit=yes", "error", "RemainAfterExit"),
        ("RestrictAddressFamilies=AF_INET AF_INET6", "error", "RestrictAddressFamilies"),
        ("RestrictAddressFamilies=none", "error", "RestrictAddressFamilies"),
        ("RestrictAddressFamilies=~AF_UNIX", "error", "RestrictAddressFamilies"),
        ("FileDescriptorStoreMax=0", "warning", "FileDescriptorStoreMax"),
        ("RuntimeDirectory=", "error", "RuntimeDirectory"),
        ("RuntimeDirectory=\nRuntimeDirectory=sdsupervise", "warning", "RuntimeDirectory"),
        ("Restart=no", "error", "Restart"),
        ("Restart=on-failure", "warning", "Restart"),
        ("RestartPreventExitStatus=", "warning", "RestartPreventExitStatus"),
        ("SuccessExitStatus=", "warning", "SuccessExitStatus"),
        ("OOMPolicy=stop", "warning", "OOMPolicy"),
        ("WatchdogSec=0", "warning", "WatchdogSec"),
        ("TimeoutStopSec=30", "warning", "TimeoutStopSec"),
        ("TimeoutStopSec=infinity", "warning", "TimeoutStopSec"),
        ("TimeoutStartSec=1min", "warning", "TimeoutStartSec"),
        ("ExecStart=\nExecStart=/usr/bin/sdsupervise run --daemonize x.py", "error", "ExecStart"),
        ("ExecStart=\nExecStart=/bin/true\nExecReload=\nExecReload=/bin/true", "error", "ExecStart"),
        (
            "WorkingDirectory=/srv/x\nExecStart=\nExecStart=/usr/bin/sdsupervise run x.py:X",
            "warning",
            "WorkingDirectory",
        ),
        (f"ExecStart=\n{COMMAND.replace('run ', 'run --restart on-failure ')}", "error", "Restart"),
        (
            f"ExecStart=\n{COMMAND.replace('run ', 'run --restart on-abnormal ')}\nRestart=on-failure",
            "error",
            "Restart",
        ),
        (f"ExecStart=\n{COMMAND.replace('run ', 'run --restart-prevent 3 ')}", "warning", "RestartPreventExitStatus"),
        (f"ExecStart=\n{COMMAND}\nFileDescriptorStoreMax=1", "warning", "FileDescriptorStoreMax"),
        (
            f"ExecStart=\n{COMMAND.replace(',lanes', ' --before-commit true')}\nFileDescriptorStoreMax=1",
            "warning",
            "FileDescriptorStoreMax",
        ),
        (f"ExecStart=\n{COMMAND.replace('--listen', '--stop-timeout 90 --listen')}", "warning", "TimeoutStopSec"),
        ("DynamicUser=no\nUser=y\nExecStart=\nExecStart=/usr/bin/sdsupervise run --user=x x.py", "warning", "User"),
        ("ExecStart=\nExecStart=/usr/bin/sdsupervise run --user x x.py", "warning", "DynamicUser"),
        (
            "DynamicUser=no\nPrivateUsers=yes\nExecStart=\nExecStart=/usr/bin/sdsupervise run --user x x.py",
            "error",
            "PrivateUsers",
        ),
    ],
)
def test_each_fault_is_found(line: str, severity: str, key: str) -> None:
    """One fault in a good unit is found, as what it is, and nothing beside it."""
    assert found(line) == [(severity, key)]


@pytest.mark.parametrize(
    "line",
    [
        "NotifyAccess=exec",
        "RestrictAddressFamilies=AF_UNIX",
        "RestrictAddressFamilies=~AF_PACKET",
        "RestrictAddressFamilies=AF_INET\nRestrictAddressFamilies=AF_UNIX",
        f"ExecStart=\n{COMMAND}",
        f"ExecStart=\n{COMMAND.replace(' run', ' run --directory /srv/x')}\nWorkingDirectory=/srv/x",
        "RuntimeDirectory=other",
        "ExecStart=\nExecStart=+/usr/bin/sdsupervise run x.py\nExecReload=\nExecReload=+/usr/bin/sdsupervise reload",
    ],
)
def test_what_is_good_is_left_alone(line: str) -> None:
    """Nothing is found where nothing is wrong."""
    assert found(line) == []


def test_what_the_service_says() -> None:
    """Settings that are known beat what is assumed."""
    assert found(settings=Settings(stop_timeout=90.0)) == [("warning", "TimeoutStopSec")]
    assert found("TimeoutStopSec=5", settings=Settings(stop_timeout=1.0)) == []
    unit = text.parse("counter.service", GOOD)
    assert [finding.key for finding in lint(unit, user="games")] == ["DynamicUser"]


def test_a_check_that_the_old_code_may_answer() -> None:
    """Of a command that is in the unit, as of what an instance's file says."""
    for word, findings in ("curl 127.0.0.1:80", [("warning", "ExecStart")]), ("curl 127.0.0.1:81", []):
        command = COMMAND.replace(" -- ", f" --before-commit '{word}' -- ")
        assert found("ExecStart=", command) == findings
    settings = {"handover": "overlap", "listen": {"a": "80"}, "before_commit": ["curl", "127.0.0.1:80"]}
    assert found(settings=check_settings("", settings)) == [("warning", "ExecStart")]


def test_what_systemd_says() -> None:
    """Settings that this systemd does not read, and a runtime directory that another unit has too."""
    unit = text.parse("counter.service", GOOD)
    known = {(assignment.section, assignment.key) for assignment in unit.assignments}
    host = Host(
        252, frozenset(known), {"other.service": ["sdsupervise/counter2"], "counter.service": ["sdsupervise/counter"]}
    )
    assert found(host=host) == []
    assert found("RestartSteps=5", "X-Mine=1", host=host) == [("warning", "RestartSteps")]
    for theirs in ("sdsupervise/counter", "sdsupervise"):
        host = host._replace(runtime_directories={"other.service": [theirs]})
        assert found(host=host) == [("error", "RuntimeDirectory")]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("systemctl kill -s USR1 counter", 1),
        ("systemctl kill --kill-whom=main -s USR1 counter", 0),
        ("kill -HUP `cat /run/counter.pid`", 1),
        ("kill -HUP `cat /run/sdsupervise/counter/counter.pid`", 0),
        ("systemctl kill -s USR1 other", 0),
        ("systemctl reload counter", 0),
    ],
)
def test_what_logrotate_signals(command: str, number: int) -> None:
    """A signal to every process of a unit, and one to whom a pid file of before names."""
    host = Host(rotations=[Rotation("/etc/logrotate.d/counter:3", command)])
    assert found(host=host) == [("warning", "logrotate")] * number


def test_each_finding_is_one_line() -> None:
    """What is wrong, and what to do."""
    unit = text.parse("counter.service", GOOD + "[Service]\nPIDFile=/run/x\nRestartSteps=1\n")
    known = frozenset({("Service", "PIDFile"), *((a.section, a.key) for a in text.parse("", GOOD).assignments)})
    assert [str(finding) for finding in lint(unit, host=Host(252, known))] == [
        "error: PIDFile= has systemd take an old supervisor for the main process after a reload; PIDFile=",
        "warning: systemd 252 ignores RestartSteps= in [Service]; it needs systemd 254",
    ]


def test_credentials_that_nobody_reads() -> None:
    """systemd gives them to the unit's User=; whoever the service becomes beside that may not read them."""
    for key in (
        "LoadCredential",
        "LoadCredentialEncrypted",
        "SetCredential",
        "SetCredentialEncrypted",
        "ImportCredential",
    ):
        unit = text.parse("counter.service", f"{GOOD}[Service]\nDynamicUser=no\n{key}=secret:/etc/secret\n")
        assert [(each.severity, each.key) for each in lint(unit, user="app")] == [("error", key)]
        assert lint(unit) == lint(unit, user="root") == []
        of_its_own = text.parse(
            "counter.service", f"{GOOD}[Service]\nDynamicUser=no\n{key}=secret:/etc/secret\nUser=app\n"
        )
        assert lint(of_its_own, user="app") == []
