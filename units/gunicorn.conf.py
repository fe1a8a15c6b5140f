"""gunicorn reports READY=1 when all its workers serve. By itself it reports that before it starts them.

    gunicorn --config YOUR_FILE --config /usr/share/sdsupervise/gunicorn.conf.py APP

gunicorn reads only the last file that is named. This file loads the one before it, or else the one that gunicorn would
have read: that of $GUNICORN_CMD_ARGS, or gunicorn.conf.py in the working directory. Its settings and hooks stay.

It needs nothing but gunicorn (20.1 or later) and Python 3.8, so it also works in a virtual environment. Without
$NOTIFY_SOCKET it only loads your file.
"""

import fcntl as _fcntl
import importlib as _importlib
import importlib.machinery as _machinery
import importlib.util as _util
import os as _os
import signal as _signal
import socket as _socket
import sys as _sys

from gunicorn.config import Config as _Config
from gunicorn.config import get_default_config_file as _default_file

# gunicorn takes no name with an underscore for a setting.


class _Readiness:
    """Which workers serve; in the arbiter, gunicorn's main process.

    A worker writes its age, the number that the arbiter gave it, into a pipe. The kernel then sends SIGURG to the
    arbiter, which has no other way to wait for a pipe. SIGURG does nothing in a process that does not handle it.
    """

    def __init__(self, server, path):
        self._server, self._path = server, path
        self._serving = set()
        self._oldest = 0  # the age of the first worker that counts
        self.open = True
        self._reader, self._writer = _os.pipe()
        _signal.signal(_signal.SIGURG, lambda *_: self._hear())
        _fcntl.fcntl(self._reader, _fcntl.F_SETOWN, _os.getpid())
        _fcntl.fcntl(self._reader, _fcntl.F_SETSIG, _signal.SIGURG)
        _fcntl.fcntl(self._reader, _fcntl.F_SETFL, _os.O_NONBLOCK | _os.O_ASYNC)

    def watch(self, worker):
        """In the worker: report it when it first says that it is alive with its application loaded.

        All kinds of workers begin with that when they are about to accept; those for ASGI, after the lifespan's startup.
        """
        notify = worker.notify

        def notify_and_report():
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

    def forget(self, worker):
        """The worker is dead."""
        self._hear()
        self._serving.discard(worker.age)

    def forget_all(self):
        """After SIGHUP, other workers replace all that there are."""
        self._hear()
        self._oldest = self._server.worker_age + 1
        self._serving.clear()

    def judge(self):
        """Send READY=1 if as many workers serve as there should be."""
        if self.open and self._serving and len(self._serving) >= self._server.num_workers:
            self.open = False
            _os.close(self._reader)
            _os.close(self._writer)
            _send(self._path, "READY=1\nSTATUS=gunicorn's workers serve: %d" % len(self._serving))

    def _hear(self):
        if self.open:
            try:
                ages = map(int, _os.read(self._reader, 65536).split())
            except BlockingIOError:
                return
            self._serving.update(age for age in ages if age >= self._oldest)
            self.judge()


def _send(path, text):
    address = "\0" + path[1:] if path.startswith("@") else path
    with _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM) as sender:
        try:
            sender.connect(address)
            sender.sendall(text.encode())
        except OSError:
            pass  # the supervisor is gone, and ends us


def _named_files(words):
    """The files that --config names in these words, in gunicorn's own reading of them."""
    config = _Config()
    config.settings["config"].action = "append"  # gunicorn keeps only the last
    return config.parser().parse_args(words).config or []


def _is_this_file(location):
    try:
        return _os.path.samefile(location[5:] if location.startswith("file:") else location, __file__)
    except OSError:
        return False


def _your_settings(config):
    """What your file says, as gunicorn would have loaded it."""
    for words in (_sys.argv[1:], config.get_cmd_args_from_env()):
        files = [location for location in _named_files(words) if not _is_this_file(location)]
        if files:
            return _loaded(files[-1])
    default = _default_file()
    return _loaded(default) if default and not _is_this_file(default) else {}


def _loaded(location):
    if location.startswith("python:"):
        return vars(_importlib.import_module(location[7:]))
    path = location[5:] if location.startswith("file:") else location
    loader = _machinery.SourceFileLoader("__config__", path)
    if path.endswith(".pyc"):
        loader = _machinery.SourcelessFileLoader("__config__", path)
    module = _util.module_from_spec(_util.spec_from_file_location("__config__", path, loader=loader))
    _sys.modules["__config__"] = module
    loader.exec_module(module)
    return vars(module)


def _hooks(yours):
    """The hooks that call yours, and do what a supervisor needs."""

    def readiness(server):
        """What counts the workers; None without a supervisor, and when READY=1 was sent."""
        found = vars(server).get("sdsupervise_readiness")
        return found if found is not None and found.open else None

    def on_starting(server):
        yours.on_starting(server)
        # gunicorn reports READY=1 between this hook and the next. Without this variable it does not.
        server.sdsupervise_notify_socket = _os.environ.pop("NOTIFY_SOCKET", "")

    def when_ready(server):
        path = server.sdsupervise_notify_socket
        if path:
            _os.environ["NOTIFY_SOCKET"] = path
            server.sdsupervise_readiness = _Readiness(server, path)
        yours.when_ready(server)

    def post_fork(server, worker):
        if readiness(server):
            readiness(server).watch(worker)
        yours.post_fork(server, worker)

    def child_exit(server, worker):
        if readiness(server):
            readiness(server).forget(worker)
        yours.child_exit(server, worker)

    def on_reload(server):
        if readiness(server):
            readiness(server).forget_all()
        yours.on_reload(server)

    def nworkers_changed(server, new_value, old_value):
        if readiness(server):
            readiness(server).judge()
        yours.nworkers_changed(server, new_value, old_value)

    return (on_starting, when_ready, post_fork, child_exit, on_reload, nworkers_changed)


_yours = _Config()
for _name, _value in _your_settings(_yours).items():
    if _name in _yours.settings:
        globals()[_name] = _value
        _yours.set(_name, _value)  # which also finds a hook that is named by a string
globals().update({_hook.__name__: _hook for _hook in _hooks(_yours)})
