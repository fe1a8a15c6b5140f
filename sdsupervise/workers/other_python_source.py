"""The source of a class's workers under another interpreter: each one is executed in that interpreter's environment."""

import json
import os
import socket
from collections.abc import Mapping, Sequence

from ..child.class_main import Beginning
from ..linux.inheritance import without_supervisors_own
from ..linux.lifeline import Lifeline
from .class_source import ClassWorkers
from .class_worker import WorkerMarks
from .source import WorkerContext

# sdsupervise is not installed in that environment. Processes that the service's multiprocessing starts must find the
# package too, and they inherit sys.path from their parent.
_BEGIN = """
import sys
sys.path.insert(0, sys.argv[1])
from sdsupervise.cli.other_python import main
main()
"""


def command_line(python: str, role: str, facts: Mapping[str, object]) -> list[str]:
    """The command line of that interpreter. -P keeps the working directory out of the module search path."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return [python, "-P", "-c", _BEGIN, os.path.join(package, "alone"), role, json.dumps(facts)]


class OtherPythonWorkers(ClassWorkers):
    """A Source that forks, executes the other interpreter, and imports the service's code there.

    The import happens in the worker, so a spare worker saves more time here than elsewhere.
    """

    def __init__(
        self, context: WorkerContext, name: str, python: str, wanted: Sequence[object], *, silent: bool
    ) -> None:
        self._context, self._lifeline, self._marks = context, Lifeline(), WorkerMarks()
        self._name, self._python, self._wanted, self._silent = name, python, wanted, silent

    def _be_worker(self, link: socket.socket, beginning: Beginning) -> int:
        listeners, lock = self._context.listeners, self._context.owner.lock_in_child()
        of_sockets = (listener.fileno() for listener in listeners.values())
        for fd in (link.fileno(), beginning.lifeline, beginning.traces, *of_sockets, lock):
            if fd is not None:
                os.set_inheritable(fd, True)
        facts = {
            "name": self._name,
            "wanted": self._wanted,
            "silent": self._silent,
            "beginning": beginning,
            "link": link.fileno(),
            "lock": lock,
            "listeners": {name: listener.fileno() for name, listener in listeners.items()},
            "fingerprint": self._context.code_version.fingerprint,
        }
        os.execve(self._python, command_line(self._python, "worker", facts), without_supervisors_own(os.environ))
