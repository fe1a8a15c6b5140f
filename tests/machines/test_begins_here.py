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
