"""The part that another interpreter executes: it describes a service class, or runs it; see service/other_python.py.

It and its imports use only the standard library: sdsupervise and its dependencies are not installed there.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from ..child import class_main
from ..child.link import Link
from ..child.process_end import run_exit_functions
from ..code import early_code, own_code
from ..code.code_version import pin_imports, read_code_version
from ..errors import ConfigError, ExitStatus, ServiceNotLoadable, UsageError
from ..handover.failure_reason import in_words
from ..linux import prctl, process_title, processes
from ..linux.unpatched import socket
from ..service.daemon import SupervisedDaemon
from ..service.failure import say_failure
from ..service.wanted import WantedService
from ..settings.settings import OF_CLASSES
from ..systemd import logs
from .run import make

_EXIT_SECONDS = 2.0  # for the exit functions of the service's code


def main() -> NoReturn:
    """Take the role that the command line names."""
    role, facts = sys.argv[2], json.loads(sys.argv[3])
    sys.argv[:] = [sys.argv[0]]
    wanted = WantedService(*facts["wanted"])
    if role == "describe":
        status = _describe(wanted, facts)
        run_exit_functions(status, at_most_seconds=_EXIT_SECONDS)
    else:
        status = _be_worker(wanted, facts)
    processes.flush()
    os._exit(status)


def _describe(wanted: WantedService, facts: Mapping[str, Any]) -> int:
    process_title.introduce(wanted.instance or wanted.target.rpartition(":")[2])
    process_title.show("loader")
    answer = facts["answer"]
    os.set_inheritable(answer, False)
    if not prctl.die_with_parent(facts["parent"], signal.SIGKILL):
        return ExitStatus.OK  # the parent is dead, and could not end this process if the class hangs
    try:
        description = _facts_of(wanted)
    except (ServiceNotLoadable, ConfigError, UsageError) as error:
        print(getattr(error, "traceback_text", ""), end="", file=sys.stderr)
        description = {"exit_status": say_failure(error), "why": in_words(error)}
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        description = {"exit_status": ExitStatus.CONFIG, "why": in_words(error)}
    with open(answer, "w") as channel:
        json.dump(description, channel, default=repr)
    return ExitStatus.OK


def _facts_of(wanted: WantedService) -> dict[str, object]:
    service = make(wanted)
    plan = service.plan()
    if plan is None:
        return {"exit_status": ExitStatus.OK}
    early_code.assure(type(service).__module__, may_execute_anew=False)
    pin_imports()
    return {
        "name": plan.name,
        "pid_file": plan.pid_file,
        "user": plan.user,
        "group": plan.group,
        "silent": plan.silent,
        "detach": plan.detach,
        "class": type(service).__name__,
        "supervised": isinstance(service, SupervisedDaemon),
        "can_reload": service.can_do_hot_reload,
        "shutdown_signals": [int(number) for number in service.shutdown_signals],
        "code_version": read_code_version(type(service).__module__).facts(),
        "settings": {name: getattr(service, name) for name in OF_CLASSES if hasattr(service, name)},
    }


def _be_worker(wanted: WantedService, facts: Mapping[str, Any]) -> int:
    beginning = class_main.Beginning(*facts["beginning"])
    process_title.introduce(facts["name"], beginning.generation)
    process_title.show("spare worker" if beginning.is_spare else "worker", beginning.slot)
    link = Link(_own_socket(facts["link"]))
    if facts["lock"] is not None:
        _keep_from_children(facts["lock"])
    try:
        service = make(wanted)
        plan = service.plan()
        early_code.assure(type(service).__module__, may_execute_anew=False)
        own_code.forget_if_reported(facts["fingerprint"])
    except (ServiceNotLoadable, ConfigError, UsageError) as error:
        text = f"{getattr(error, 'traceback_text', '')}{error}"
        print(text, file=sys.stderr)
        link.tell_failure(text)
        return error.exit_status
    assert isinstance(service, SupervisedDaemon) and plan is not None
    logs.set_up(plan.name, generation=beginning.generation, silent=facts["silent"])
    logs.describe("worker", beginning.generation, os.getpid())
    pin_imports()
    service.prepare_workers({name: _own_socket(fd) for name, fd in facts["listeners"].items()})
    class_main.prepare()
    return class_main.run(service, link, beginning)


def _own_socket(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def _keep_from_children(lock: int) -> None:
    """Close the lock in each child that this worker forks or executes."""
    os.set_inheritable(lock, False)
    os.register_at_fork(after_in_child=lambda: os.close(lock))
