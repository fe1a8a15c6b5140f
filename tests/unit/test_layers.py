"""The layers of the package, held by what the modules import: folders import only folders before them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sdsupervise"

# The folders in order: each imports only folders of the lines before its own. Within a folder no imports go in circles.
LAYERS: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split())
    for line in """
        errors
        core input
        linux
        settings
        systemd code
        child sockets
        control
        instances workers
        hooks
        handover
        supervisor
        service unitfiles
        checks imports
        cli
    """.strip().splitlines()
)
APART = ("alone",)  # it imports the package by its path, for another interpreter
WITHOUT_THE_SYSTEM = (
    "core",
    "settings.settings",
    "settings.kinds",
    "settings.listen",
    "child.protocol",
    "control.varlink",
)
SYSTEM = {"os", "signal", "socket", "time", "logging", "select", "subprocess", "threading", "asyncio", "ctypes"}
# What costs every service memory or start-up time is imported where it is used.
COSTLY = {"asyncio", "curses", "dataclasses", "hashlib", "inspect", "psutil", "sdnotify"}
COSTLY |= {"setproctitle", "subprocess", "systemd"}

# What gevent and eventlet replace; None stands for all of a module.
PATCHED: dict[str, set[str] | None] = {
    "_thread": None,
    "os": {"fdopen", "fork", "forkpty", "open", "posix_spawn", "posix_spawnp", "read", "wait", "waitpid", "write"},
    "select": None,
    "signal": {"getsignal", "signal"},
    "socket": {"create_connection", "create_server", "fromfd", "getaddrinfo", "socket", "socketpair"},
}
# These run in no process that loads a service's code, or before it does.
NEVER_PATCHED = ("cli.", "checks.", "imports.", "unitfiles.", "linux.unpatched")

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """core.takeover, or core for its __init__; "" is the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def layer_of(name: str) -> int:
    """The line of LAYERS on which a module's folder stands."""
    folder = name.partition(".")[0]
    found = [number for number, layer in enumerate(LAYERS) if folder in layer]
    assert len(found) == 1, f"{folder} stands on {len(found)} lines of LAYERS"
    return found[0]


@cache
def parsed(text: str) -> ast.Module:
    """The code of a module, parsed once."""
    return ast.parse(text)


def statements(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """All import statements, also those within functions."""
    for node in ast.walk(parsed(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def own_imports(path: Path) -> set[str]:
    """The modules of ours that a module imports."""
    package = path.relative_to(PACKAGE).parent.parts
    found = set()
    for node in statements(path):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.removeprefix("sdsupervise.") for alias in node.names if "sdsupervise" in alias.name]
        elif node.level or (node.module or "").partition(".")[0] == "sdsupervise":
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = (node.module or "").removeprefix("sdsupervise").strip(".")
            base = ".".join([*start, *([module] if module else [])])
            # `from . import run` names a module, `from .run import X` something in it.
            names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
            names = [name if name in NAMES else base for name in names]
        found |= {name for name in names if name}
    return found


def foreign_imports(path: Path, *, at_the_top: bool) -> set[str]:
    """The top-level names of other people's modules that a module imports, only when it is imported or ever."""
    body = parsed(path.read_text()).body if at_the_top else list(statements(path))
    found = set()
    for node in body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_back(path: Path) -> None:
    """A module imports only its own folder and folders on a line before."""
    name, imports = name_of(path), own_imports(path)
    folder = name.partition(".")[0]
    if path.name == "__init__.py":
        assert imports <= {"service.daemon"} and (path.parent == PACKAGE or not imports)
        return
    if name == "__main__" or folder in APART:
        return
    wrong = {other for other in imports if other.partition(".")[0] != folder and layer_of(other) >= layer_of(name)}
    assert not wrong, f"{name} must not import {', '.join(sorted(wrong))}: see LAYERS"


@pytest.mark.parametrize("folder", sorted({folder for layer in LAYERS for folder in layer}))
def test_no_circles(folder: str) -> None:
    """Within a folder every import can be followed to its end."""
    graph = {
        name_of(path): {other for other in own_imports(path) if other.partition(".")[0] == folder}
        for path in MODULES
        if name_of(path).partition(".")[0] == folder and path.name != "__init__.py"
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports go in a circle: {' -> '.join(error.args[1])}")


def test_every_folder_has_its_line() -> None:
    """LAYERS names each folder once, and none that is not there."""
    folders = {name.partition(".")[0] for name in NAMES} - {"", "__main__", *APART}
    assert sorted(folder for layer in LAYERS for folder in layer) == sorted(folders)


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith(WITHOUT_THE_SYSTEM)], ids=name_of)
def test_decisions_know_no_system(path: Path) -> None:
    """Decisions, messages and settings are free of input, output and time."""
    assert not foreign_imports(path, at_the_top=False) & SYSTEM


def sets_of_states(text: str) -> list[str]:
    """What lists two states or more, or chooses several at once in a match statement."""
    found = []
    for node in ast.walk(ast.parse(text)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.BoolOp):
            parts = [other for value in node.values if isinstance(value, ast.Compare) for other in value.comparators]
        elif isinstance(node, ast.MatchOr):
            parts = [pattern.value for pattern in node.patterns if isinstance(pattern, ast.MatchValue)]
        if sum(ast.unparse(part).startswith("State.") for part in parts) > 1:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", [p for p in MODULES if not name_of(p).startswith("core.")], ids=name_of)
def test_sets_of_states_are_columns(path: Path) -> None:
    """What several states have in common is a column of core/phases.py."""
    assert not sets_of_states(path.read_text()), "make it a column of Phase, in core/phases.py"


def test_sets_of_states_are_seen() -> None:
    """Each way to write one is found, and a single state is none."""
    for text in (
        "x in (State.SERVING, State.GONE)",
        "SOME = frozenset({State.SERVING, State.GONE})",
        "x = {State.SERVING: 1, State.GONE: 2}",
        "x is State.SERVING or x is State.GONE",
        "match x:\n    case State.SERVING | State.GONE:\n        pass",
    ):
        assert sets_of_states(text), text
    assert not sets_of_states("x is State.SERVING or y")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_costly_imports_wait(path: Path) -> None:
    """What every service would pay for is imported only where it is used."""
    assert not foreign_imports(path, at_the_top=True) & COSTLY


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_signal_by_number(path: Path) -> None:
    """A process is signalled through its pidfd, since a number can be somebody else's by then. The
    exceptions are a child that was not reaped yet, so that its number is still its own, the group it leads, and a
    question that signals nobody."""
    allowed = 3 if name_of(path) == "linux.processes" else 0
    calls = [
        node
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("kill", "killpg") and ast.unparse(node.value) == "os"
    ]
    assert len(calls) <= allowed


def patchable(path: Path) -> set[str]:
    """The modules of which a module uses something that gevent or eventlet replaces."""
    found = set()
    for node in ast.walk(parsed(path.read_text())):
        used = [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        for name in used:
            if isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name) and name.value.id in PATCHED:
                names = PATCHED[name.value.id]
                found |= {name.value.id} if names is None or name.attr in names else set()
    return found


@pytest.mark.parametrize("path", [p for p in MODULES if not name_of(p).startswith(NEVER_PATCHED)], ids=name_of)
def test_a_services_patches_are_its_own(path: Path) -> None:
    """What gevent and eventlet replace comes from sdsupervise.linux.unpatched, which has it as it was before."""
    imported = {
        alias.name
        for node in statements(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] == "unpatched"
        for alias in node.names
    }
    assert patchable(path) <= imported, "import these from linux.unpatched"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nobody_sleeps(path: Path) -> None:
    """Nothing sleeps to wait."""
    nodes = ast.walk(parsed(path.read_text()))
    assert "sleep" not in {getattr(node, "attr", getattr(node, "id", "")) for node in nodes}


def test_the_rules_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import of a sibling, of something after it, and of a module through its package are all seen."""
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    (tmp_path / "linux").mkdir()
    path = tmp_path / "linux" / "channel.py"
    for text, seen in (
        ("from .processes import fork", {"linux.processes"}),
        ("from . import processes", {"linux.processes"}),
        ("from ..supervisor import supervisor", {"supervisor.supervisor"}),
        ("from ..handover.peer import Peer", {"handover.peer"}),
        ("import sdsupervise.service.daemon", {"service.daemon"}),
        ("from sdsupervise.linux import signals", {"linux.signals"}),
        ("def f():\n    from ..cli import run", {"cli.run"}),
        ("import os, socket", set()),
    ):
        path.write_text(text)
        assert own_imports(path) == seen, text
        assert all(layer_of(name) >= layer_of("linux.channel") for name in seen)
