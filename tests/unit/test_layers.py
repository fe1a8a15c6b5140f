"""DESIGN.md's layers, held by what the modules import: upwards only, and siblings ignore each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sdsupervise"

# Each module may import those of the lines above its own. A folder's name stands for all modules of that folder.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("alone", "errors", "events", "own_programs", "printable", "unpatched"),
    ("bytecode",),
    ("own_code",),
    (
        "addresses",
        "core.checked",
        "daemons",
        "core.words",
        "files",
        "linux.backlog",
        "linux.outlet",
        "linux.patience",
        "listen",
    ),
    (
        "config",
        "core.phases",
        "core.respawn",
        "core.takeover",
        "protocol",
        "varlink",
    ),
    (
        "linux",
        "mentions",
        "nearest",
        "options",
        "places",
        "receipt",
        "systemd",
        "toml_text",
    ),
    (
        "linux.descent",
        "linux.process_groups",
        "linux.usage",
        "root_environment",
        "usage",
        "workers.greenlets",
    ),
    ("workers.process_end",),
    (
        "answers",
        "check_reach",
        "check_words",
        "holder",
        "kept",
        "lane",
        "messages",
        "time_share",
        "unwaiting",
        "workers.coroutines",
        "workers.leftovers",
        "workers.link",
        "workers.notify_socket",
        "workers.python_worker",
        "workers.traces",
        "workers.worker",
    ),
    ("given_names",),
    (
        "ahead",
        "successor_listeners",
        "workers.command_worker",
        "workers.draining",
        "workers.linked_worker",
        "workers.notified_worker",
        "workers.shim",
        "workers.source",
    ),
    ("connection", "workers.shimmed_worker"),
    (
        "birth",
        "client",
        "file_keys",
        "control",
        "counters",
        "early_code",
        "errand",
        "listening",
        "lock",
        "logs",
        "peer",
        "control_process",
        "foreground",
        "init",
        "reporting",
        "standing",
        "start_record",
    ),
    ("instance", "instance_check", "run_directory", "second_start"),
    ("instance_file",),
    ("instance_reader",),
    (
        "announcer",
        "before_commit",
        "class_workers",
        "command_workers",
        "crash_loops",
        "elders",
        "example_file",
        "last_words",
        "launch",
        "recycling",
        "reload",
        "scaling",
        "starts",
    ),
    (
        "chronicle",
        "elsewhere_workers",
        "description",
        "wanted",
        "plain_daemon",
        "succession",
        "workforce",
    ),
    ("account", "loading", "requests"),
    ("supervisor",),
    ("code_of_root", "command", "daemon", "elsewhere", "listen_check"),
    ("rehearsal",),
    ("unitfiles.line", "unitfiles.since", "unitfiles.words"),
    ("unitfiles.programs", "unitfiles.text"),
    ("program_check", "unitfiles.rotation"),
    ("start_check", "unitfiles.subject"),
    ("unitfiles.host", "unitfiles.rules"),
    ("unitfiles.lint", "unitfiles.root_code", "unitfiles.wrap"),
    ("unitfiles.fit", "unitfiles.install"),
    (
        "cli.apart",
        "cli.ask",
        "cli.by_name",
        "cli.exec_reload",
        "cli.own_unit",
        "cli.target",
        "cli.telling",
        "cli.terminal",
        "cli.typed",
    ),
    ("cli.outdated", "cli.progress", "cli.tree", "cli.unit_reload"),
    ("cli.several", "cli.watch"),
    (
        "cli.check",
        "cli.config",
        "cli.list",
        "cli.metrics",
        "cli.ready",
        "cli.reload",
        "cli.run",
        "cli.scale",
        "cli.status",
        "cli.unit",
        "cli.version",
    ),
    ("cli.commands", "cli.inside"),
    ("cli.main",),
    ("__main__",),
)
WITHOUT_THE_SYSTEM = ("core", "protocol", "config", "varlink")
SYSTEM = {"os", "signal", "socket", "time", "logging", "select", "subprocess", "threading", "asyncio", "ctypes"}
# What costs every service memory or start-up time is imported where it is used; DESIGN.md, "Libraries".
COSTLY = {"asyncio", "curses", "dataclasses", "inspect", "psutil", "systemd", "sdnotify", "hashlib", "subprocess"}

# What gevent and eventlet replace; None stands for all of a module.
PATCHED: dict[str, set[str] | None] = {
    "_thread": None,
    "os": {"fdopen", "fork", "forkpty", "open", "posix_spawn", "posix_spawnp", "read", "wait", "waitpid", "write"},
    "select": None,
    "signal": {"getsignal", "signal"},
    "socket": {"create_connection", "create_server", "fromfd", "getaddrinfo", "socket", "socketpair"},
}
# These run in no process that loads a service's code, or before it does.
NEVER_PATCHED = ("cli", "rehearsal", "unitfiles", "unpatched")

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """core.takeover, or core for its __init__; "" is the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def layer_of(name: str) -> int:
    """The line of LAYERS a module stands on."""
    entries = [(entry, number) for number, layer in enumerate(LAYERS) for entry in layer]
    fitting = [(len(entry), number) for entry, number in entries if name == entry or name.startswith(f"{entry}.")]
    found = [number for length, number in fitting if length == max(fitting)[0]]  # a module goes before its folder
    assert len(found) == 1, f"{name or 'the package itself'} stands on {len(found)} lines of LAYERS"
    return found[0]


def statements(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """All import statements, also those within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
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
    body = ast.parse(path.read_text()).body if at_the_top else list(statements(path))
    found = set()
    for node in body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_up(path: Path) -> None:
    """A module imports only what stands on a line above its own; no sibling, in a folder or on a line."""
    if path == PACKAGE / "__init__.py":
        assert own_imports(path) == {"daemon"}
        return
    name, imports = name_of(path), own_imports(path)
    if path.name == "__init__.py":
        assert not imports
        return
    wrong = {other for other in imports if layer_of(other) >= layer_of(name)}
    assert not wrong, f"{name} must not import {', '.join(sorted(wrong))}"


def test_every_line_is_needed() -> None:
    """LAYERS names no module that is not there."""
    for layer in LAYERS:
        for entry in layer:
            assert entry in NAMES, f"there is no {entry}"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith(WITHOUT_THE_SYSTEM)], ids=name_of)
def test_decisions_know_no_system(path: Path) -> None:
    """Decisions, messages and settings are free of input, output and time."""
    assert not foreign_imports(path, at_the_top=False) & SYSTEM


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_costly_imports_wait(path: Path) -> None:
    """What every service would pay for is imported only where it is used."""
    assert not foreign_imports(path, at_the_top=True) & COSTLY


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_signal_by_number(path: Path) -> None:
    """A process is signalled through its pidfd, since a number can be somebody else's by then (SEED.md, hazard 7). The
    exceptions are a child that was not reaped yet, so that its number is still its own, the group it leads, and a
    question that signals nobody."""
    allowed = 3 if name_of(path) == "linux.processes" else 0
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("kill", "killpg") and ast.unparse(node.value) == "os"
    ]
    assert len(calls) <= allowed


def patchable(path: Path) -> set[str]:
    """The modules of which a module uses something that gevent or eventlet replaces."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        used = [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        for name in used:
            if isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name) and name.value.id in PATCHED:
                names = PATCHED[name.value.id]
                found |= {name.value.id} if names is None or name.attr in names else set()
    return found


@pytest.mark.parametrize("path", [p for p in MODULES if not name_of(p).startswith(NEVER_PATCHED)], ids=name_of)
def test_a_services_patches_are_its_own(path: Path) -> None:
    """What gevent and eventlet replace comes from sdsupervise.unpatched, which has it as it was before."""
    imported = {
        alias.name
        for node in statements(path)
        if isinstance(node, ast.ImportFrom) and node.module == "unpatched"
        for alias in node.names
    }
    assert patchable(path) <= imported, "import these from unpatched"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nobody_sleeps(path: Path) -> None:
    """Nothing sleeps to wait."""
    assert "sleep" not in {
        getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(ast.parse(path.read_text()))
    }


def test_the_rules_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import of a sibling, of something below, and of a module through its package are all seen."""
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    (tmp_path / "linux").mkdir()
    path = tmp_path / "linux" / "channel.py"
    for text, seen in (
        ("from .processes import fork", {"linux.processes"}),
        ("from . import processes", {"linux.processes"}),
        ("from .. import supervisor", {"supervisor"}),
        ("from ..workers.worker import Worker", {"workers.worker"}),
        ("import sdsupervise.daemon", {"daemon"}),
        ("from sdsupervise.linux import signals", {"linux.signals"}),
        ("def f():\n    from ..cli import run", {"cli.run"}),
        ("import os, socket", set()),
    ):
        path.write_text(text)
        assert own_imports(path) == seen, text
        assert all(layer_of(name) >= layer_of("linux.channel") for name in seen)
