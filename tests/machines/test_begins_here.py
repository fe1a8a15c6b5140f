"""A successor that goes on in a fork of the process of ExecReload= is as one that was executed."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.support.trial import Trial, source

AT_LOAD = """\
with open("/proc/self/status") as lines:
    MASKS = [line for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
"""

FACTS = """\
facts["signals at load"] = MASKS
facts["argv"] = sys.argv, sys.orig_argv
facts["sys.path"] = sys.path[1:]  # the first is the directory of the release
facts["threads"] = threading.active_count()
facts["began in ExecReload="] = "sdsupervise.cli.exec_reload" in sys.modules
"""

SHORT = "/usr/bin/sdsupervise run trial.py:Trial"
LONG = SHORT.replace(" trial", " --handover exclusive --handover exclusive trial")
"""Has room for a title, so that the environment stays in /proc/PID/environ; and is executed for that."""

OF_EACH = ("INVOCATION_ID", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM")


class Seen(NamedTuple):
    """A generation, without what is another in each."""

    status: str
    limits: str
    descriptors: list[str]
    facts: dict[str, object]
    environment: dict[str, str]


def seen(trial: Trial, release: int) -> Seen:
    """The main process and its worker, after a reload."""
    main = trial.main_pid
    answer = trial.assert_serves(release)
    status = re.findall(
        r"^(?:PPid|Uid|Gid|Groups|SigBlk|SigIgn|SigCgt|Cap|NoNewPrivs|Seccomp).*", read(trial, main, "status"), re.M
    )
    listed = trial.machine.run("find", f"/proc/{main}/fd", "-type", "l", "-printf", "%f %l\n").stdout
    links = sorted(re.sub(r"\[\d+\]", "[N]", line.partition(" ")[2]) for line in listed.splitlines())
    environment = {name: value for name, value in answer["environment"].items() if name not in OF_EACH}
    facts = {name: answer[name] for name in ("argv", "sys.path", "threads", "signals at load")}
    return Seen("\n".join(status), read(trial, main, "limits"), links, facts, environment)


def read(trial: Trial, pid: int, name: str) -> str:
    return trial.machine.read(f"/proc/{pid}/{name}")


def test_it_is_as_if_executed(trial: Trial) -> None:
    """The signals, limits, descriptors, words, paths and environment are those of a successor that was executed."""
    both = []
    for first, command in ((1, SHORT), (11, LONG)):
        trial.deploy(first, source(first, top=AT_LOAD, facts=FACTS))
        directory, variables = f"WorkingDirectory={trial.current}", "Environment=PYTHONPATH=/srv/no COLOUR=red"
        trial.install(directory, variables, "ExecReload=", "ExecReload=/usr/bin/sdsupervise reload", command=command)
        trial.start()
        for release in (first + 1, first + 2):
            trial.deploy(release, source(release, top=AT_LOAD, facts=FACTS))
            assert trial.reload() == 0
        facts = trial.assert_serves(first + 2)
        assert facts["began in ExecReload="] == (command == SHORT)
        assert facts["argv"] == [command.split(), ["/usr/bin/python3", *command.split()]], facts["argv"]
        both.append(seen(trial, first + 2))
        trial.stop()
    here, executed = both
    assert here.environment == executed.environment
    assert here._replace(facts={}, environment={}) == executed._replace(facts={}, environment={})
    assert here.facts["sys.path"] == executed.facts["sys.path"]
    assert here.facts["threads"] == executed.facts["threads"]
    assert here.facts["signals at load"] == executed.facts["signals at load"]


def test_the_environment_stays_readable(trial: Trial) -> None:
    """Where ExecReload= has room for the title, the fork goes on, and /proc/PID/environ has the unit's variables."""
    trial.deploy(1, source(1, top=AT_LOAD, facts=FACTS))
    trial.install(f"WorkingDirectory={trial.current}", command=LONG)
    trial.start()
    trial.drop_in("Environment=COLOUR=green")
    trial.deploy(2, source(2, top=AT_LOAD, facts=FACTS))
    assert trial.reload() == 0
    assert trial.assert_serves(2)["began in ExecReload="]
    assert trial.environment_of(trial.main_pid)["COLOUR"] == "green"


def test_threads_are_not_lost(trial: Trial) -> None:
    """A sitecustomize.py of the unit has started a thread, which a fork would not have; nor would it free its locks."""
    top = "import sitecustomize\nLIVES = sitecustomize.thread.is_alive()"
    trial.machine.write(
        "/srv/threads/sitecustomize.py",
        "import threading, time\n"
        "thread = threading.Thread(target=time.sleep, args=(3600,), daemon=True)\n"
        "thread.start()\n",
    )
    for release in (1, 2):
        trial.deploy(release, source(release, top=top, facts='facts["lives"] = LIVES'))
        if release == 1:
            trial.install("Environment=PYTHONPATH=/srv/threads")
            trial.start()
        else:
            assert trial.reload() == 0
        assert trial.assert_serves(release)["lives"]


def test_modules_of_pythonpath(trial: Trial) -> None:
    """A class has the module of its PYTHONPATH after a reload, too; the process of ExecReload= has loaded another."""
    trial.machine.run("install", "-D", "-t", "/srv/vendored", "/usr/lib/python3.11/argparse.py")
    for release in (1, 2):
        trial.deploy(release, source(release, top="import argparse", facts='facts["file"] = argparse.__file__'))
        if release == 1:
            trial.install("Environment=PYTHONPATH=/srv/vendored")
            trial.start()
        else:
            assert trial.reload() == 0
        assert trial.assert_serves(release)["file"] == "/srv/vendored/argparse.py"


SITE = """\
import sys
RELEASE = {release}
if {release} == 1 and "reload" in sys.orig_argv:
    open({loaded!r}, "w").write("here")
    open({go!r}).read(1)
"""


def test_a_deploy_during_execreload(trial: Trial) -> None:
    """A sitecustomize.py of the old release, which the process of ExecReload= has loaded, is not in the new one."""
    loaded, go = trial.fifo("loaded"), trial.fifo("go")

    def deploy(release: int) -> None:
        site = SITE.format(release=release, loaded=loaded.path, go=go.path)
        trial.machine.write(f"/srv/{trial.name}/releases/{release}/sitecustomize.py", site)
        facts = 'facts["site"] = sys.modules["sitecustomize"].RELEASE'
        trial.deploy(release, source(release, facts=facts))

    deploy(1)
    trial.install(f"Environment=PYTHONPATH={trial.current}")
    trial.start()
    with trial.calling("reload") as call:
        loaded.read()
        deploy(2)
        go.write("1")
        assert call.wait(60) == 0
    assert trial.assert_serves(2)["site"] == 2


SCRIPT = """\
import sys
from sdsupervise.cli.main import main
sys.exit(main())
"""


def test_an_upgrade_during_execreload(trial: Trial) -> None:
    """sdsupervise is replaced after the process of ExecReload= has loaded it: no successor has modules of both."""
    there = f"/srv/{trial.name}/tool"
    loaded, go = trial.fifo("loaded"), trial.fifo("go")
    package = trial.machine.run(
        "/usr/bin/python3", "-c", "import sdsupervise as s; print(s.__path__[0])"
    ).stdout.strip()
    waits = f"open({loaded.path!r}, 'w').write('here')\nopen({go.path!r}).read(1)\n"
    trial.machine.write(f"{there}/tool", SCRIPT)
    for number, place in ((1, "sdsupervise"), (2, "new")):
        trial.machine.run("cp", "-r", package, f"{there}/{place}")
        for name in ("errors", "service/plan", "cli/begins_here"):
            file = f"{there}/{place}/{name}.py"
            more = f"RELEASE = {number}\n" + waits * (number == 1 and name == "cli/begins_here")
            trial.machine.write(file, trial.machine.read(file) + more)
    facts = 'facts["tool"] = [sys.modules[f"sdsupervise.{name}"].RELEASE for name in ("errors", "service.plan")]'
    trial.deploy(1, source(1, facts=facts))
    tool = f"/usr/bin/python3 {there}/tool"
    trial.install(
        *("ExecReload=", f"ExecReload={tool} reload /etc/sdsupervise/{trial.name}.toml"),
        command=f"{tool} run --directory {trial.current} trial.py:Trial",
    )
    trial.start()
    assert trial.assert_serves(1)["tool"] == [1, 1]
    trial.deploy(2, source(2, facts=facts))
    with trial.calling("reload") as call:
        loaded.read()
        trial.machine.run("mv", f"{there}/sdsupervise", f"{there}/old")
        trial.machine.run("mv", f"{there}/new", f"{there}/sdsupervise")
        go.write("1")
        assert call.wait(60) == 0
    assert trial.assert_serves(2)["tool"] == [2, 2]
