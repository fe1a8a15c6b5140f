"""The manual pages are complete, true, and read well; how they are made: packaging/man/build.py."""

from __future__ import annotations

import re
import signal
import tomllib
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from sdsupervise.cli import commands
from sdsupervise.core.takeover import State
from sdsupervise.errors import ExitStatus
from sdsupervise.hooks import notify_command
from sdsupervise.instances.keys import FILE_KEYS
from sdsupervise.linux.signals import PASSED_ON
from sdsupervise.service.daemon import SupervisedDaemon
from sdsupervise.supervisor import scaling
from sdsupervise.systemd import catalog
from tests.docs import pages
from tests.docs.documents import CLONE, comparable, number_of_sessions, with_sessions
from tests.support import applies
from tests.support.machine import Machine

PAGES = sorted(source.stem for source in pages.SOURCES.glob("*.rst"))
# Pages of others that ours point to: systemd's, the kernel's, coreutils'.
OTHERS = {
    *(
        "journalctl(1)",
        "logrotate(8)",
        "nohup(1)",
        "systemctl(1)",
        "systemd-analyze(1)",
        "systemd-notify(1)",
        "varlinkctl(1)",
    ),
    *("flock(2)", "select(2)", "sd_listen_fds(3)", "sd_notify(3)"),
    *("systemd.exec(5)", "systemd.service(5)", "systemd.socket(5)"),
}
# Between two supervisors; not for people.
PRIVATE_VARIABLES = {"SDSUPERVISE_EXECUTED_ANEW", "SDSUPERVISE_HANDOVER", "SDSUPERVISE_RUN_DIRECTORY"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """All pages, as they are installed."""
    return pages.make(tmp_path_factory.mktemp("man"))


@pytest.fixture(scope="module")
def texts(made: Mapping[str, Path]) -> Mapping[str, str]:
    """What a reader sees of them at 80 columns, by page."""
    return {name: re.sub(".\b", "", pages.run("man", "--local-file", str(page))[0]) for name, page in made.items()}


def entries(page: Path) -> list[str]:
    """What stands in bold at the head of its lists."""
    text = re.sub(r"\\f.|\\", "", page.read_text())
    return re.findall(r"^\.TP\n(?:\.B )?(.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed(made: Mapping[str, Path], name: str) -> None:
    """groff has nothing to say about it, and whatis(1) finds what it is about: what lintian demands."""
    page = str(made[name])
    assert pages.run("man", "--warnings", "--encoding=UTF-8", "--local-file", "-Tutf8", "-Z", page)[1] == ""
    assert re.search(rf'"{re.escape(name.rpartition(".")[0])} - \w', pages.run("lexgrog", page)[0])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_terminal(texts: Mapping[str, str], name: str) -> None:
    """Nothing in it is wider than 80 columns."""
    assert [line for line in texts[name].splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_what_pages_have(texts: Mapping[str, str], name: str) -> None:
    """The usual sections, in the usual order; and what it points to is there."""
    sections = re.findall(r"^([A-Z].*)$", texts[name], re.MULTILINE)[1:]
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"] or name.endswith(".7")
    assert sections[-2:] == ["EXAMPLES", "SEE ALSO"]
    there = {re.sub(r"\.(\d)$", r"(\1)", page) for page in PAGES}
    source = (pages.SOURCES / f"{name}.rst").read_text()
    pointed_to = {f"{page}({number})" for page, number in re.findall(r"\*\*([\w.@-]+)\*\*\\ \((\d)\)", source)}
    assert pointed_to - there - OTHERS == set()
    assert pointed_to & there


def test_every_option_is_there(texts: Mapping[str, str]) -> None:
    """sdsupervise(1) has each command, and each option of each command."""
    text = texts["sdsupervise.1"]
    for parser in commands.parser().each():
        options = {*re.findall(r"(?<![\w-])--?[a-z][a-z-]*", parser.format_help())} - {"-h", "--help"}
        assert re.search(rf"^ +{' +'.join(parser.prog.split())}\b", text, re.MULTILINE)  # justified, on both sides
        assert [option for option in options if not re.search(rf"{option}\b", text)] == []


def test_every_key_is_there(made: Mapping[str, Path]) -> None:
    """sdsupervise.toml(5) has an entry for each key that the file may have."""
    assert set(FILE_KEYS) - set(entries(made["sdsupervise.toml.5"])) == set()


def test_files_are_as_they_are_shown() -> None:
    """Every file that sdsupervise.toml(5) shows can be read, and has only keys and values that there are."""
    source = (pages.SOURCES / "sdsupervise.toml.5.rst").read_text()
    files = [dedent(block) for block in re.findall(r"(?<!run\n\n)^::\n\n((?:  .*\n|\n(?=  ))+)", source, re.M)]
    assert len(files) >= 3
    for file in files:
        for key, value in tomllib.loads(file).items():
            FILE_KEYS[key].check(value)


def test_every_exit_status_is_there(made: Mapping[str, Path]) -> None:
    """sdsupervise(1) has an entry for each."""
    assert {str(status.value) for status in ExitStatus} - set(entries(made["sdsupervise.1"])) == set()


def test_every_state_is_there(made: Mapping[str, Path]) -> None:
    """sdsupervise(7) and sdsupervise-protocol(7) have an entry for each."""
    for page in ("sdsupervise.7", "sdsupervise-protocol.7"):
        assert {state.name.lower() for state in State} - set(entries(made[page])) == set()


def test_every_variable_is_there(texts: Mapping[str, str]) -> None:
    """Whatever the code reads of its environment, or puts into that of others, stands in a page."""
    # unitfiles/ and imports/ are about the variables of others' units and files.
    others = ("unitfiles", "imports")
    modules = [path for path in (CLONE / "sdsupervise").rglob("*.py") if path.parent.name not in others]
    lines = [line for path in modules for line in path.read_text().splitlines()]
    found = {name for line in lines if "environ" in line for name in re.findall(r'"([A-Z][A-Z_]+[A-Z])"', line)}
    found |= {name for line in lines for name in re.findall(r'_VARIABLE = "([A-Z_]+)"', line)}
    assert {"RUNTIME_DIRECTORY", "SDSUPERVISE_GENERATION"} <= found
    everything = "".join(texts.values())
    missing = [name for name in found - PRIVATE_VARIABLES if not re.search(rf"\${name}\b", everything)]
    assert missing == []


def test_whatever_can_be_watched_is_there(made: Mapping[str, Path]) -> None:
    """sdsupervise@.service(8) has each event with its MESSAGE_ID, and each variable of a notify_command."""
    told = {f"{news.word} {news.value}" for news in catalog.CatalogEntry} | {
        f"${name}" for name in notify_command.VARIABLES
    }
    assert told - set(entries(made["sdsupervise@.service.8"])) == set()


def test_all_that_a_reload_applies_is_there(texts: Mapping[str, str]) -> None:
    """sdsupervise@.service(8) has every setting of which a test says how it comes into force."""
    told = texts["sdsupervise@.service.8"].partition("\nWHAT A RELOAD APPLIES\n")[2]
    assert [setting.name for setting in applies.SETTINGS if f" {setting.name}" not in told] == []
    assert [applied.value for applied in applies.Applied if applied.value not in told] == []


def test_every_signal_is_there(texts: Mapping[str, str]) -> None:
    """sdsupervise(1) has each signal that a supervisor takes."""
    signals = {signal.SIGTERM, *SupervisedDaemon.shutdown_signals, *map(signal.Signals, PASSED_ON)}
    signals |= {signal.SIGUSR2, *scaling.SIGNALS}
    assert [number.name for number in signals if number.name not in texts["sdsupervise.1"]] == []


class Service(SupervisedDaemon):
    """One with nothing of its own."""

    def supervised_process(self) -> None:
        """As SupervisedDaemon."""

    def supervised_shutdown(self) -> None:
        """As SupervisedDaemon."""


def test_every_name_of_the_api_is_there(texts: Mapping[str, str]) -> None:
    """sdsupervise(3) has whatever a service finds of ours in itself, but for what says that it is not for it."""
    names = {name for name in dir(Service()) if not name.startswith("_")} - pages.api.OURS
    assert {"supervised_process", "draining", "worker_index", "listen", "pid_file", "script_name", "run"} <= names
    text = texts["sdsupervise.3"]
    assert [name for name in names if not re.search(rf"^       .*\b{name}\b", text, re.MULTILINE)] == []


def test_examples_go_as_they_are_shown(fresh_machine: Machine) -> None:
    """Each command in a page's examples is run, and prints what stands below it, but for times and pids."""
    for name in PAGES:
        text = (pages.SOURCES / f"{name}.rst").read_text()
        examples = text.partition("\nEXAMPLES\n")[2]
        shown = len(re.findall(r"^  # .*", examples, re.MULTILINE))
        assert not shown or number_of_sessions(examples)
        ran = with_sessions(text, fresh_machine)
        assert comparable(ran).splitlines() == comparable(text).splitlines(), name
