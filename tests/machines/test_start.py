"""`systemctl start` tells the truth."""

from __future__ import annotations

import pytest

from sdsupervise.errors import ExitStatus
from tests.support.trial import Trial, source


def test_start_returns_when_the_worker_is_ready_and_not_before(trial: Trial) -> None:
    """While the worker warms up the start goes on; as soon as it is ready, the start is done."""
    warming, warm = trial.fifo("warming"), trial.fifo("warm")
    trial.deploy(1, source(1, warm_up=f"open({warming.path!r}, 'w').write('here'); open({warm.path!r}).readline()"))
    with trial.calling("start") as start:
        assert warming.read() == "here"
        assert trial.show("ActiveState", "SubState") == {"ActiveState": "activating", "SubState": "start"}
        assert trial.status == "Generation 1 is starting"
        assert start.poll() is None
        warm.write("enough\n")
        assert start.wait(20) == 0
    trial.assert_serves(1)
    assert trial.status.startswith(f"Generation 1 serves /srv/{trial.name}/releases/1/trial.py (")


STARTS_THAT_FAIL = {
    "syntax error": (source(1, top="def :"), "", "SyntaxError: invalid syntax", ExitStatus.CONFIG),
    "import error": (
        source(1, top="import requsts"),
        "",
        "ModuleNotFoundError: No module named 'requsts'",
        ExitStatus.CONFIG,
    ),
    "exits while imported": (source(1, top="sys.exit('no licence')"), "", "SystemExit: no licence", ExitStatus.CONFIG),
    "no such class": ("from sdsupervise import SupervisedDaemon", "", "name one subclass", ExitStatus.CONFIG),
    "wrong setting": (source(1), "--takeover-timeout 0", "takeover_timeout is 0.0; it must be", ExitStatus.CONFIG),
    "worker raises": (
        source(1, warm_up="raise RuntimeError('no database')"),
        "",
        "RuntimeError: no database",
        ExitStatus.UNAVAILABLE,
    ),
    "worker exits": (source(1, warm_up="os._exit(3)"), "", "exited with status 3", ExitStatus.UNAVAILABLE),
    "worker killed": (
        source(1, warm_up="os.kill(os.getpid(), signal.SIGKILL)"),
        "",
        "was killed by SIGKILL",
        ExitStatus.UNAVAILABLE,
    ),
    "worker never ready": (
        source(1, warm_up="while True: signal.pause()"),
        "--start-timeout 0.2",
        "was not ready in 0.2 s",
        ExitStatus.UNAVAILABLE,
    ),
}


@pytest.mark.parametrize("how", STARTS_THAT_FAIL)
def test_a_start_that_fails_says_so_and_why(trial: Trial, how: str) -> None:
    """`systemctl start` fails, the reason is in STATUS and the journal, the exit status is the table's, nothing is
    left."""
    code, options, reason, status = STARTS_THAT_FAIL[how]
    trial.ends_failed = True
    trial.deploy(1, code)
    trial.install("Restart=no", options=options)
    assert trial.systemctl("start", check=False).returncode == 1
    shown = trial.show("ActiveState", "Result", "ExecMainStatus", "StatusText", "NRestarts")
    assert reason in shown.pop("StatusText")
    assert shown == {
        "ActiveState": "failed",
        "Result": "exit-code",
        "ExecMainStatus": str(int(status)),
        "NRestarts": "0",
    }
    assert trial.processes == []
    assert any(reason in entry["MESSAGE"] for entry in trial.story().own)


def test_broken_code_is_not_started_again(trial: Trial) -> None:
    """RestartPreventExitStatus=78: a failure that starting again would not mend ends the matter, the reason stays
    readable."""
    trial.ends_failed = True
    trial.deploy(1, source(1, top="import requsts"))
    assert trial.systemctl("start", check=False).returncode == 1
    assert trial.show("ActiveState", "NRestarts") == {"ActiveState": "failed", "NRestarts": "0"}
    assert "No module named 'requsts'" in trial.status
    assert trial.story().says("Service will not restart (prevented by exit status)")


def test_a_worker_that_fails_at_start_is_started_again_by_systemd(trial: Trial) -> None:
    """A start that failed for what may pass (69) is systemd's Restart= to try again; the first that works serves."""
    mended = trial.fifo("mended")
    trial.deploy(1, source(1, warm_up=f"sys.exit(int(open({mended.path!r}).readline()))"))
    with trial.calling("start") as start:
        mended.write("1\n")
        assert start.wait(20) == 1
    trial.deploy(2)
    journal = trial.follow()
    mended.write("1\n")  # to a second try of release 1, should it have begun already
    journal.wait_for("release 2 serves")
    trial.assert_serves(2)
    assert int(trial.show("NRestarts")["NRestarts"]) >= 1


def test_a_second_start_as_a_unit_is_refused(trial: Trial) -> None:
    """A second start under systemd ends with 69 and reloads nothing: exit status 0 would make Restart=always reload
    the first one for ever."""
    trial.start()
    second = f"{trial.name}-second.service"
    settings = f"Type=notify\nExecStart={trial.command}\nEnvironment=RUNTIME_DIRECTORY=/run/sdsupervise/{trial.name}"
    trial.machine.write(f"/run/systemd/system/{second}", f"[Service]\n{settings}\n")
    trial.machine.run("systemctl", "daemon-reload")
    assert trial.machine.run("systemctl", "start", second, check=False).returncode == 1
    shown = trial.machine.show(second, "ExecMainStatus", "StatusText")
    assert shown["ExecMainStatus"] == str(int(ExitStatus.UNAVAILABLE))
    assert "Is another copy of this daemon already running?" in shown["StatusText"]
    trial.assert_serves(1)
    assert trial.story().told("RELOADING") == []


def test_a_failed_start_is_told(trial: Trial) -> None:
    """notify_command hears of a start that fails, with the reason, before the supervisor leaves."""
    trial.ends_failed = True
    trial.machine.write(
        "/usr/local/bin/tell",
        '#!/bin/sh\necho "told: $SDSUPERVISE_EVENT: $SDSUPERVISE_REASON" >/tmp/told\n',
        mode=0o755,
    )
    trial.deploy(1, source(1, warm_up="raise OSError('no disk')"))
    trial.install("Restart=no", options="--notify-command /usr/local/bin/tell")
    assert trial.systemctl("start", check=False).returncode == 1
    reason = "The service did not get ready: the worker exited with status 1 (OSError: no disk)."
    assert trial.machine.read("/tmp/told") == f"told: gave-up: {reason}\n"


LIBRARIES = ("systemd", "sdnotify", "setproctitle")
SEES_THEM = f"facts['files'] = [module.__file__ for module in ({', '.join(LIBRARIES)})]"


@pytest.mark.parametrize("place", ["/srv/strangers", "/nowhere"], ids=["PYTHONPATH", "its own directory"])
def test_modules_named_like_our_libraries(trial: Trial, place: str) -> None:
    """A class finds its own modules, and its supervisor the libraries of the same names, in one interpreter."""
    for release in (1, 2):
        directory = place if place == "/srv/strangers" else f"/srv/{trial.name}/releases/{release}"
        for name in LIBRARIES:
            trial.machine.write(f"{directory}/{name}.py", "")
        trial.deploy(release, source(release, top=f"import {', '.join(LIBRARIES)}", facts=SEES_THEM))
        if release == 1:
            trial.install(f"Environment=PYTHONPATH={place}", "WatchdogSec=30")
            trial.start()
        else:
            assert trial.reload() == 0
        assert trial.assert_serves(release)["files"] == [f"{directory}/{name}.py" for name in LIBRARIES]
    assert "sdsupervise: Trial supervisor (generation 2)" in trial.systemctl("status", "--lines=0").stdout
    trial.systemctl("restart")
    trial.assert_serves(2)
