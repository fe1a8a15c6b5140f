"""The file for gunicorn: how its main process counts workers. tests/load runs it in gunicorn itself."""

from __future__ import annotations

import ast
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "sdsupervise" / "unitfiles" / "gunicorn_ready.py"


class Config:
    """What the file wants of gunicorn's, as far as it does when nothing is set."""

    def __init__(self) -> None:
        self.settings = {"config": SimpleNamespace()}

    def parser(self) -> Any:  # noqa: ANN401
        return SimpleNamespace(parse_args=lambda words: SimpleNamespace(config=None))

    def get_cmd_args_from_env(self) -> list[str]:
        return []


class GunicornsMain:
    """gunicorn's main process: its state, what it was told by workers, and what the supervisor heard."""

    def __init__(self, module: ModuleType, path: Path, wanted: int) -> None:
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.supervisor.bind(str(path))
        self.state = SimpleNamespace(num_workers=wanted, worker_age=wanted)
        self.readiness = module._Readiness(self.state, str(path))

    def serves(self, age: int) -> None:
        """A worker says that it does."""
        os.write(self.readiness._writer, b"%d\n" % age)

    @property
    def said(self) -> list[str]:
        """What the supervisor has got since the last time."""
        self.readiness._hear()
        found = []
        try:
            while True:
                found.append(self.supervisor.recv(4096).decode().split("\n")[0])
        except BlockingIOError:
            return found


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The file, loaded."""
    gunicorn = ModuleType("gunicorn.config")
    vars(gunicorn).update(Config=Config, get_default_config_file=lambda: None)
    monkeypatch.setitem(sys.modules, "gunicorn", ModuleType("gunicorn"))
    monkeypatch.setitem(sys.modules, "gunicorn.config", gunicorn)
    handler = signal.getsignal(signal.SIGURG)
    module = importlib.import_module("sdsupervise.unitfiles.gunicorn_ready")
    registered: list[object] = []
    at_exit = SimpleNamespace(register=registered.append, unregister=registered.remove, registered=registered)
    monkeypatch.setattr(module, "_atexit", at_exit)
    yield module
    del sys.modules["sdsupervise.unitfiles.gunicorn_ready"]
    signal.signal(signal.SIGURG, handler)


Start = Callable[[int], GunicornsMain]


@pytest.fixture
def start(module: ModuleType, tmp_path: Path) -> Start:
    """Start gunicorn's main process with so many workers."""
    return lambda wanted: GunicornsMain(module, tmp_path / "notify", wanted)


def test_all_workers(start: Start) -> None:
    """READY=1 is sent once, when the last worker serves, and no worker is asked afterwards."""
    main = start(2)
    main.serves(2)
    assert main.said == [] and main.readiness.open
    main.serves(1)
    assert main.said == ["READY=1"] and not main.readiness.open
    main.readiness.judge()
    assert main.said == []


def test_the_kernel_wakes_the_main_process(start: Start) -> None:
    """It need not look into the pipe: SIGURG comes when a worker writes to it."""
    main = start(1)
    main.serves(1)
    main.supervisor.settimeout(60)
    assert main.supervisor.recv(4096).startswith(b"READY=1\nSTATUS=")


def test_a_worker_that_dies_while_others_start(start: Start) -> None:
    """It does not count any more, also if it is dead before it was heard."""
    main = start(2)
    main.serves(1)
    main.readiness.forget(SimpleNamespace(age=1))
    main.serves(2)
    assert main.said == []
    main.serves(3)  # which replaces the first one
    assert main.said == ["READY=1"]


def test_workers_are_added(start: Start) -> None:
    """After SIGTTIN, one more must serve."""
    main = start(1)
    main.state.num_workers = 2
    main.serves(1)
    assert main.said == []
    main.serves(2)
    assert main.said == ["READY=1"]


def test_workers_are_taken_away(start: Start) -> None:
    """After SIGTTOU, those that serve may be enough."""
    main = start(2)
    main.serves(2)
    assert main.said == []
    main.state.num_workers = 1
    main.readiness.judge()
    assert main.said == ["READY=1"]


def test_a_hangup(start: Start) -> None:
    """After SIGHUP, only the workers that replace the others count."""
    main = start(2)
    main.serves(1)
    main.readiness.forget_all()
    main.serves(2)
    main.serves(3)
    assert main.said == []
    main.serves(4)
    assert main.said == ["READY=1"]


def test_a_worker(module: ModuleType, start: Start) -> None:
    """It reports once: when it says that it is alive for the first time after its application was loaded."""
    main, calls = start(1), []
    worker = SimpleNamespace(age=1, booted=False, notify=lambda: calls.append("alive"))
    if (pid := os.fork()) == 0:
        try:
            main.readiness.watch(worker)
            worker.notify()
            worker.booted = True
            worker.notify()
            worker.notify()
            os._exit(len(calls))
        finally:
            os._exit(100)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert main.said == ["READY=1"]


def test_a_worker_that_cannot_start(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """The main process writes its error at the end, and no other process: only the last one, and of a long one the
    end."""
    main = start(1)
    worker = SimpleNamespace(age=1, booted=False)

    def ends(worker: SimpleNamespace, error: BaseException | None) -> str:
        """What the main process writes when a worker has left by sys.exit() after this error."""
        if (pid := os.fork()) == 0:
            leaves = SystemExit(3)
            leaves.__context__ = error
            main.readiness.keep_error(worker, leaves)
            main.readiness.write_error()
            os._exit(0)
        os.waitpid(pid, 0)
        assert capfd.readouterr().err == ""
        main.readiness.write_error()
        return capfd.readouterr().err

    assert ends(worker, None) == ""
    long = ends(worker, RuntimeError("x" * 100_000 + "end"))
    assert len(long) == 8192 and long.endswith("xend\n")
    short = ends(worker, ModuleNotFoundError("No module named 'requsts'"))
    assert short.endswith("ModuleNotFoundError: No module named 'requsts'\n") and "xend" not in short
    assert main.said[-1] == "STATUS=A worker of gunicorn cannot start: ModuleNotFoundError: No module named 'requsts'"
    assert ends(SimpleNamespace(age=1, booted=True), ValueError("later")) == short
    main.readiness.keep_error(worker, ProcessLookupError("of the main process"))
    assert ends(worker, None) == short


def test_no_error_is_written_after_ready(module: ModuleType, start: Start) -> None:
    """Whatever becomes of a worker then, the supervisor does not wait for it."""
    main = start(1)
    assert module._atexit.registered == [main.readiness.write_error]
    main.serves(1)
    assert main.said == ["READY=1"] and module._atexit.registered == []


def test_the_supervisor_is_gone(start: Start) -> None:
    """gunicorn goes on if nobody hears it."""
    main = start(1)
    main.supervisor.close()
    main.serves(1)
    main.readiness._hear()
    assert not main.readiness.open


def test_an_old_python() -> None:
    """gunicorn may run with another Python than ours: the file has no syntax that Python 3.8 does not know, and imports
    only modules of Python itself and of gunicorn."""
    tree = ast.parse(FILE.read_text(), feature_version=(3, 8))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"gunicorn"}


def test_no_name_is_a_setting() -> None:
    """All its names begin with an underscore, so that gunicorn takes none for a setting."""
    tree = ast.parse(FILE.read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imported = {
        name.asname for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names
    }
    assert [name for name in (defined | imported) - {None} if not str(name).startswith("_")] == []
