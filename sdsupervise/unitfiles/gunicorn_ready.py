"""A configuration file for gunicorn: it reports READY=1 when all its workers serve, not before it starts them.

    gunicorn --config YOUR_FILE --config /usr/share/sdsupervise/gunicorn_ready.py APP

gunicorn reads only the last file that is named. This file loads the one before it, or else the one that gunicorn would
have read: that of $GUNICORN_CMD_ARGS, or gunicorn.conf.py in the working directory. Your settings and hooks stay.

If a worker cannot start, gunicorn ends. Then its main process writes the worker's error once more, and reports it as
its status, because a supervisor shows the output and the status of the main process.

It runs in gunicorn's processes, so it uses only gunicorn (20.1 or later) and Python (3.8 or later). Without
$NOTIFY_SOCKET it only loads your file.
"""

from __future__ import annotations

import atexit as _atexit
import fcntl as _fcntl
import importlib as _importlib
import importlib.machinery as _machinery
import importlib.util as _util
import os as _os
import signal as _signal
import socket as _socket
import sys as _sys
import traceback as _traceback
from typing import Any as _Any
from typing import Callable as _Callable

from gunicorn.config import Config as _Config
from gunicorn.config import get_default_config_file as _default_file

# gunicorn takes no name that begins with an underscore for a setting.
_MOST_BYTES = 65536  # that a pipe holds
_MOST_BYTES_OF_ERROR = 8192
_MOST_OF_STATUS = 500  # characters


class _Readiness:
    """Counts the workers that serve, in gunicorn's main process.

    A worker writes its age, a number that no other worker has, into a pipe. Then the kernel sends SIGURG to the main
    process, which cannot wait for a pipe of ours. Nothing happens in a process that does not handle SIGURG.
    """

    def __init__(self, server: _Any, path: str) -> None:
        self.open = True
        self._server, self._path = server, path
        self._serving: set[int] = set()
        self._main = _os.getpid()
        self._first_age = 0  # workers before this one do not count
        self._error = _os.memfd_create("error of a worker")
        _atexit.register(self.write_error)
        self._reader, self._writer = _os.pipe()
        _signal.signal(_signal.SIGURG, lambda *_: self._hear())
        _fcntl.fcntl(self._reader, _fcntl.F_SETOWN, _os.getpid())
        _fcntl.fcntl(self._reader, _fcntl.F_SETSIG, _signal.SIGURG)
        _fcntl.fcntl(self._reader, _fcntl.F_SETFL, _os.O_NONBLOCK | _os.O_ASYNC)

    def watch(self, worker: _Any) -> None:
        """In the worker: report it when it serves.

        Every kind of worker says that it is alive (notify) just before it accepts for the first time. A worker for ASGI
        has completed its lifespan startup then.
        """
        notify: _Callable[[], None] = worker.notify

        def notify_and_report() -> None:
            notify()
            if worker.booted:
                worker.notify = notify
                try:
                    _os.write(self._writer, b"%d\n" % worker.age)
                except OSError:
                    pass  # READY=1 was sent without this worker
                _os.close(self._writer)

        _os.close(self._reader)
        worker.notify = notify_and_report

    def forget(self, worker: _Any) -> None:
        """The worker is dead."""
        self._hear()
        self._serving.discard(worker.age)

    def forget_all(self) -> None:
        """After SIGHUP, new workers replace all that there are."""
        self._first_age = self._server.worker_age + 1
        self._serving.clear()

    def keep_error(self, worker: _Any, error: BaseException | None) -> None:
        """In the worker, which ends: keep the exception because of which it never served.

        gunicorn also calls worker_exit in the main process, for a worker that it wanted to end and that is gone.
        """
        while isinstance(error, SystemExit):
            error = error.__context__  # gunicorn leaves by sys.exit()
        if error is not None and not worker.booted and _os.getpid() != self._main:
            lines = _traceback.format_exception(type(error), error, error.__traceback__)
            text = "".join(lines).encode(errors="backslashreplace")
            _os.ftruncate(self._error, 0)
            _os.pwrite(self._error, text[-_MOST_BYTES_OF_ERROR:], 0)

    def write_error(self) -> None:
        """In the main process, which ends: write the error of the last worker that could not start, if there is one.

        Its last line is also the status, which a supervisor shows without a look at the output.

        Rejected: the hook on_exit. gunicorn does not call it if another worker fails while it stops the workers.
        """
        error = _os.pread(self._error, _MOST_BYTES_OF_ERROR, 0).decode(errors="replace")
        if error and _os.getpid() == self._main:
            _sys.stderr.write(error)
            _sys.stderr.flush()
            _send(self._path, f"STATUS=A worker of gunicorn cannot start: {error.splitlines()[-1][:_MOST_OF_STATUS]}")

    def judge(self) -> None:
        """Send READY=1 if as many workers serve as there should be."""
        if self.open and self._serving and len(self._serving) >= self._server.num_workers:
            self.open = False
            _os.close(self._reader)
            _os.close(self._writer)
            _os.close(self._error)
            _atexit.unregister(self.write_error)
            _send(self._path, f"READY=1\nSTATUS=Workers of gunicorn that serve: {len(self._serving)}")

    def _hear(self) -> None:
        if self.open:
            try:
                ages = [int(word) for word in _os.read(self._reader, _MOST_BYTES).split()]
            except BlockingIOError:
                return
            self._serving.update(age for age in ages if age >= self._first_age)
            self.judge()


def _send(path: str, text: str) -> None:
    with _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM) as sender:
        try:
            sender.connect("\0" + path[1:] if path.startswith("@") else path)
            sender.sendall(text.encode())
        except OSError:
            pass  # the supervisor is gone, and this process ends


def _named_files(words: list[str]) -> list[str]:
    """The files that --config names in these words, as gunicorn itself reads them."""
    config = _Config()
    config.settings["config"].action = "append"  # gunicorn keeps only the last
    return config.parser().parse_args(words).config or []


def _is_this_file(location: str) -> bool:
    try:
        return _os.path.samefile(location[5:] if location.startswith("file:") else location, __file__)
    except OSError:
        return False


def _your_settings() -> dict[str, _Any]:
    """What your file says."""
    for words in (_sys.argv[1:], _Config().get_cmd_args_from_env()):
        files = [location for location in _named_files(words) if not _is_this_file(location)]
        if files:
            return _loaded(files[-1])
    default = _default_file()
    return _loaded(default) if default and not _is_this_file(default) else {}


def _loaded(location: str) -> dict[str, _Any]:
    """The names of a file or a module, loaded as gunicorn does it."""
    if location.startswith("python:"):
        return vars(_importlib.import_module(location[7:]))
    path = location[5:] if location.startswith("file:") else location
    kind = _machinery.SourcelessFileLoader if path.endswith(".pyc") else _machinery.SourceFileLoader
    loader = kind("__config__", path)
    spec = _util.spec_from_file_location("__config__", path, loader=loader)
    assert spec is not None  # because there is a loader
    module = _sys.modules["__config__"] = _util.module_from_spec(spec)
    loader.exec_module(module)
    return vars(module)


def _readiness(server: _Any) -> _Readiness | None:
    """None without a supervisor, and when READY=1 was sent."""
    found: _Readiness | None = vars(server).get("sdsupervise_readiness")
    return found if found is not None and found.open else None


def _hooks_of_main(yours: _Any) -> tuple[_Callable[..., None], ...]:
    """The hooks about the main process. Each calls yours."""

    def on_starting(server: _Any) -> None:
        yours.on_starting(server)
        # gunicorn reports READY=1 between this hook and the next one, if there is this variable.
        server.sdsupervise_notify_socket = _os.environ.pop("NOTIFY_SOCKET", "")

    def when_ready(server: _Any) -> None:
        path = server.sdsupervise_notify_socket
        if path:
            _os.environ["NOTIFY_SOCKET"] = path
            server.sdsupervise_readiness = _Readiness(server, path)
        yours.when_ready(server)

    def on_reload(server: _Any) -> None:
        starting = _readiness(server)
        if starting is not None:
            starting.forget_all()
        yours.on_reload(server)

    def nworkers_changed(server: _Any, new_value: int, old_value: int | None) -> None:
        starting = _readiness(server)
        if starting is not None:
            starting.judge()
        yours.nworkers_changed(server, new_value, old_value)

    return (on_starting, when_ready, on_reload, nworkers_changed)


def _hooks_of_workers(yours: _Any) -> tuple[_Callable[..., None], ...]:
    """The hooks about workers. Each calls yours."""

    def post_fork(server: _Any, worker: _Any) -> None:
        starting = _readiness(server)
        if starting is not None:
            starting.watch(worker)
        yours.post_fork(server, worker)

    def worker_exit(server: _Any, worker: _Any) -> None:
        starting = _readiness(server)
        if starting is not None:
            starting.keep_error(worker, _sys.exc_info()[1])
        yours.worker_exit(server, worker)

    def child_exit(server: _Any, worker: _Any) -> None:
        starting = _readiness(server)
        if starting is not None:
            starting.forget(worker)
        yours.child_exit(server, worker)

    return (post_fork, worker_exit, child_exit)


_yours = _Config()
for _name, _value in _your_settings().items():
    if _name in _yours.settings:
        globals()[_name] = _value
        _yours.set(_name, _value)  # this also finds a hook that is named by a string
for _hook in (*_hooks_of_main(_yours), *_hooks_of_workers(_yours)):
    globals()[_hook.__name__] = _hook
