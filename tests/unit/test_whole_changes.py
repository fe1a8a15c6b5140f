"""A change that forgets a file: for each of the six changes in .github/CONTRIBUTING.md, a sentence names that file."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from sdsupervise.cli import commands
from sdsupervise.core.phases import PHASES
from sdsupervise.core.states import State
from sdsupervise.core.takeover import RULES, Effect, Event
from sdsupervise.service.daemon import SupervisedDaemon
from sdsupervise.settings.settings import KINDS, ONLY_FOR_COMMANDS, Settings
from sdsupervise.systemd.catalog import CatalogEntry
from tests.docs import json_page

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "sdsupervise"
sys.path += [str(PROJECT / "packaging" / "man"), str(PROJECT / "packaging" / "doc" / "pictures")]
COMPLETIONS = ("packaging/completion/sdsupervise", "packaging/completion/_sdsupervise")
MAKE = "run `make made`"
# How a test runs a verb.
RUNS = r"""(?:SDSUPERVISE|\b(?:run|as_user|sdsupervise)\(ground), "{0}"|(?:\bsdsupervise|{{SDSUPERVISE}}) {0}\b"""
# What of a status only programs read: `status --json`, and the checks of `reload --outdated`.
NOT_SHOWN = {"can_reload", "counters", "credentials_directory", "since", "version", "healthy", "state", "serves"}


def read(name: str) -> str:
    return (PROJECT / name).read_text()


def missing(what: str, file: str, todo: str) -> str:
    """The sentence."""
    return f"{what} is forgotten in {file}: {todo}."


@pytest.mark.parametrize("name", Settings._fields)
def test_a_setting(name: str) -> None:
    """It has a kind, is an attribute of classes or for commands alone, and stands in what is made of the settings."""
    what = f"The setting {name}"
    assert name in KINDS, missing(what, "KINDS in sdsupervise/settings/settings.py", "say what values it has")
    assert name in ONLY_FOR_COMMANDS or hasattr(SupervisedDaemon, name), missing(
        what, "sdsupervise/service/daemon.py", "add the attribute, or have its kind say that it is for commands only"
    )
    assert f"{name} = " in read("packaging/example.toml"), missing(what, "packaging/example.toml", MAKE)
    for file in COMPLETIONS:
        assert f"--{name.replace('_', '-')}" in read(file), missing(what, file, MAKE)


def test_kinds_are_of_settings() -> None:
    """No kind is left of a setting that is gone."""
    left = KINDS.keys() - set(Settings._fields)
    assert not left, f"KINDS in sdsupervise/settings/settings.py has {left}, which Settings has not: take them out."


def verbs() -> set[str]:
    """The modules that define a command."""
    files = [file for file in (PACKAGE / "cli").rglob("*.py") if "\ndef add_parser(" in file.read_text()]
    return {file.stem for file in files}


def test_a_verb() -> None:
    """Each module that defines one is listed, each that is listed is there, completed and tested, and its JSON is
    described."""
    listed = {commands._MODULES.get(name, name) for name in commands._COMMANDS}
    for name in verbs() - listed:
        pytest.fail(missing(f"The verb of cli/{name}.py", "sdsupervise/cli/commands.py", "list it in _COMMANDS"))
    for name in listed - verbs():
        pytest.fail(missing(f"The verb {name}", f"sdsupervise/cli/{name}.py", "write it, with add_parser()"))
    folders = ("processes", "machines")
    tests = "".join(file.read_text() for each in folders for file in (PROJECT / "tests" / each).rglob("test_*.py"))
    for name in commands._COMMANDS:
        for file in COMPLETIONS:
            assert f"_sdsupervise_{name}_option" in read(file), missing(f"The verb {name}", file, MAKE)
        assert re.search(RUNS.format(name), tests), missing(f"The verb {name}", "tests/processes/", "test it")
    described = {output.command for output in json_page.outputs()}
    for parser in commands.parser().each():
        if re.search(r"^  --json\b", parser.format_help(), re.MULTILINE):
            assert any(re.match(rf"{parser.prog}\b", command) for command in described), missing(
                f"The output of {parser.prog} --json",
                "packaging/doc/commands.varlink",
                f"give it a type, {MAKE}, and add a line to tests/machines/test_json.py",
            )


@pytest.mark.parametrize("entry", CatalogEntry, ids=lambda entry: entry.word)
def test_a_journal_event(entry: CatalogEntry) -> None:
    """The catalog explains it, and something logs it."""
    what = f"The event {entry.word}"
    assert f"-- {entry.value}\n" in read("units/sdsupervise.catalog"), missing(
        what, "units/sdsupervise.catalog", f"add an entry that begins with `-- {entry.value}`"
    )
    sources = (file.read_text() for file in PACKAGE.rglob("*.py") if file.name != "catalog.py")
    assert any(f"CatalogEntry.{entry.name}" in text for text in sources), missing(
        what, "the module that notices it", f"log it with entry_fields(CatalogEntry.{entry.name}, ...)"
    )


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_state(state: State) -> None:
    """It has rules, consequences, a name in Varlink, a place in the manual page, and a way to it in a test."""
    import states

    what = f"The state {state.name}"
    assert state in RULES, missing(what, "sdsupervise/core/takeover.py", "say what each event does in it")
    assert state in PHASES, missing(what, "sdsupervise/core/phases.py", "say what follows from it")
    assert any(state in of_role for of_role in states.ROLES.values()), missing(
        what, "ROLES in packaging/man/states.py", "say which side of a reload is in it"
    )
    words = re.findall(
        r"\w+", read("sdsupervise/control/io.sdsupervise.varlink").partition("type State (")[2].partition(")")[0]
    )
    assert state is State.GONE or state.name.lower() in words, missing(
        what, "type State in sdsupervise/control/io.sdsupervise.varlink", "add its name in lower case"
    )
    words_for: tuple[tuple[str, Collection[Event | Effect], Collection[Event | Effect]], ...] = (
        ("_EVENTS", RULES[state], states._EVENTS),
        ("_EFFECTS", {effect for rule in RULES[state].values() for effect in rule.effects}, states._EFFECTS),
    )
    for table, used, described in words_for:
        for each in used:
            assert each in described, missing(
                f"{each.name}, which a rule of {state.name} has,",
                f"{table} in packaging/man/states.py",
                "put it in words",
            )
    assert re.search(rf"\b(S|State)\.{state.name}\b", read("tests/chaos/kill/ways.py")) or state is State.GONE, missing(
        what, "tests/chaos/kill/ways.py", "say how a test gets there"
    )


def test_ways_of_states() -> None:
    """A reload in which all goes well can be followed, the picture shows each way, and each place of the table that a
    test names is there. If not, the error is a sentence that names the file."""
    import statechart
    import states

    for handover in states._TURNS:
        assert {RULES[state][event].next for _, state, event in states.good_reload(handover)} >= {State.GONE}
    statechart.check()
    for file in sorted((PROJECT / "tests").rglob("*.py")):
        for place, state, event, effect in re.findall(r"(\b([A-Z_]+)\+([A-Z_]+)/(\d+))", file.read_text()):
            rule = (
                RULES[State[state]].get(Event[event]) if {state} <= names(State) and {event} <= names(Event) else None
            )
            assert rule is not None and int(effect) <= len(rule.effects), (
                f"{file.relative_to(PROJECT)} names {place}, which is not a place of the takeover table: take another."
            )


def names(kind: type[State] | type[Event]) -> set[str]:
    """Those of its members."""
    return {member.name for member in kind}


def sources_of_workers() -> Iterator[tuple[str, str]]:
    """The modules that start a kind of worker, each with its class."""
    for file in sorted((PACKAGE / "workers").glob("*_source.py")):
        (name,) = re.findall(r"^class (\w+Workers)\b", file.read_text(), re.MULTILINE)
        yield f"sdsupervise/workers/{file.name}", name


@pytest.mark.parametrize(("file", "name"), list(sources_of_workers()))
def test_a_kind_of_worker(file: str, name: str) -> None:
    """A service starts it, `run` knows that service, and the architecture is tested."""
    services = [path for path in sorted((PACKAGE / "service").glob("*.py")) if f"{name}(" in path.read_text()]
    assert services, missing(f"{name} of {file}", "sdsupervise/service/", "write the service that has such workers")
    for path in services:
        assert re.search(rf"\bservice\.{path.stem}\b|\bservice import {path.stem}\b", read("sdsupervise/cli/run.py")), (
            missing(f"The service of {path.name}", "sdsupervise/cli/run.py", "say when it is what runs")
        )


def keys(file: str, of: str) -> set[str]:
    """Those of the first dict in a function or an assignment, and of the one beside it."""
    for node in ast.walk(ast.parse(read(file))):
        is_function = isinstance(node, ast.FunctionDef) and node.name == of
        if is_function or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == of):
            if is_function:
                (dicts,) = [[n.value] for n in ast.walk(node) if isinstance(n, ast.Return)]
            else:
                dicts = node.value.args  # type: ignore[attr-defined]
            return {key.value for each in dicts for key in each.keys}  # type: ignore[union-attr]
    raise AssertionError(f"{file} has no {of}")


def test_a_line_of_status() -> None:
    """It is described, checked where it enters, and shown."""
    facts = keys("sdsupervise/supervisor/status.py", "facts")
    described = (
        read("sdsupervise/control/io.sdsupervise.varlink").partition("method Status() -> (")[2].partition(")\n")[0]
    )
    checked = keys("sdsupervise/control/answers.py", "_STATUS")
    shown = "".join(file.read_text() for file in (PACKAGE / "cli").rglob("*.py"))
    for name in sorted(facts | checked):
        what = f"The line {name} of status"
        assert name in facts, missing(what, "facts() in sdsupervise/supervisor/status.py", "say it")
        assert re.search(rf"^  {name}: ", described, re.MULTILINE), missing(
            what, "method Status in sdsupervise/control/io.sdsupervise.varlink", "describe it"
        )
        assert name in checked, missing(what, "_STATUS in sdsupervise/control/answers.py", "say what it may be")
        assert name in NOT_SHOWN or f'"{name}"' in shown, missing(
            what, "sdsupervise/cli/tree.py", "show it, or say in NOT_SHOWN that only programs read it"
        )


def test_the_page_of_json() -> None:
    """Its tables are those of the interfaces, with each state, each verb's output and each line of status."""
    text = json_page.PAGE.read_text()
    assert text == json_page.page(text), f"packaging/doc/json.md is old: {MAKE}."
