"""The shapes of a supervisor's answers on its control socket, by method: see io.sdsupervise.varlink.

The process that listens on a control socket owns its directory, and may be no supervisor. So each answer is checked as
a whole when it arrives: numbers are in range, lists and texts have a bounded length, and texts to show are printable.
The texts of Code stay as they are, because they are compared with the disk: see cli/outdated.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..input.checked import (
    MOST_COUNT,
    Reader,
    Record,
    any_object,
    count,
    flag,
    generation,
    line,
    lines,
    list_of,
    map_of,
    maybe,
    number,
    patience,
    pid,
    record,
    seconds,
    text,
    whole,
)
from ..input.printable import MOST_OF_TRACEBACK
from ..linux.channel import Sender
from ..settings.settings import MOST_WORKERS
from . import varlink

_MOST_OF_A_KIND = 10_000  # of workers, sockets, modules, words
_since = number(0.0, 1e11)  # seconds since the epoch
_workers = whole(0, MOST_WORKERS)
_amount = number(0.0, float(MOST_COUNT))
_age = number(0.0, 1e10)
_sentence = line(20_000)
_pids = list_of(pid, _MOST_OF_A_KIND)
_phases = map_of(seconds, 100, name=line(100))
_counts = map_of(_amount, 1000, name=line(200))

_CODE = record({"path": line(), "fingerprint": line(100)})
_SOCKET = record({"name": line(300), "address": line(300), "from": line(100)})
_WORKER = record(
    {
        "index": _workers,
        "pid": pid,
        "state": line(100),
        "age": _age,
        "last_ping": maybe(_age),
        "status": line(),
        "crashes": count,
        "retiring": line(),
    },
    {"shim": pid},
)
_SUCCESSOR = record({"generation": generation, "pid": maybe(pid), "code": line(), "workers": _pids, "ready": _workers})
_DRAINING = record({"generation": generation, "pid": maybe(pid), "workers": _pids, "at_most": patience})
_RELOAD = record(
    {
        "asked_at": _since,
        "asked_by": line(300),
        "verdict": line(100),
        "reason": _sentence,
        "not_applied": _sentence,
        "seconds": seconds,
        "phases": _phases,
    }
)
_word = text(128 * 1024)  # MAX_ARG_STRLEN, execve(2)
_STATUS = record(
    {
        "name": line(300),
        "version": line(100),
        "state": line(100),
        "status": _sentence,
        "serves": flag,
        "healthy": flag,
        "generation": generation,
        "since": _since,
        "pid": pid,
        "handover": line(100),
        "code": _CODE,
        "argv": list_of(_word, _MOST_OF_A_KIND),
        "directory": line(),
        "pid_file": line(),
        "can_reload": flag,
        "sockets": list_of(_SOCKET, _MOST_OF_A_KIND),
        "crashes": count,
        "pool": record({"workers": _workers, "serving": _workers, "max_workers": _workers, "automatic": flag}),
        "workers": list_of(_WORKER, _MOST_OF_A_KIND),
        "spare": maybe(pid),
        "successor": maybe(_SUCCESSOR),
        "draining": list_of(_DRAINING, 1000),
        "last_reload": maybe(_RELOAD),
        "counters": map_of(_counts, 100, name=line(100)),
    },
    {"credentials_directory": text()},
)
_WHAT_RUNS = record(
    {
        "path": text(),
        "fingerprint": line(100),
        "modules": list_of(record({"name": text(), "file": text()}), _MOST_OF_A_KIND),
        "complete": flag,
        "command": list_of(_word, _MOST_OF_A_KIND),
        "argv": list_of(_word, _MOST_OF_A_KIND),
        "directory": text(),
        "working_directory": text(),
        "version": line(100),
        "package": text(),
    },
    {"reload_signal": line(100), "program": line(100), "read_again": line(100)},
)
# A step of a reload, or the verdict "done".
_STEP: Mapping[str, Reader] = {
    "phase": line(100),
    "message": _sentence,
    "at_most": patience,
    "ready": _workers,
    "workers": _workers,
    "verdict": line(100),
    "seconds": seconds,
    "phases": _phases,
    "generation": generation,
    "pid": pid,
    "code": line(),
    "same_code": flag,
    "old_generation": generation,
    "old_pid": pid,
    "not_applied": _sentence,
    "drains_at_most": patience,
    "by_signal": _sentence,
}
ANSWERS: Mapping[str, Record] = {
    "Status": _STATUS,
    "Code": _WHAT_RUNS,
    "Reload": record({}, {**_STEP, "spawn": flag}),
    "Follow": record({}, _STEP),
    "Scale": record({"workers": _workers}),
}
# The parameters of an error. Parameters of Varlink's own errors are ignored.
FAILURE = record(
    {},
    {
        "reason": _sentence,
        "seconds": seconds,
        "not_applied": _sentence,
        "traceback": lines(MOST_OF_TRACEBACK),
        "generation": generation,
        "code": line(),
        "worker_was_stopped": flag,
        "workers": _workers,
        "serving": _workers,
        "serves": flag,
        "stops": flag,
        "from_disk": flag,
        "outcome": _sentence,
        "silent_worker": pid,
    },
)
_FORM = record({}, {"parameters": any_object, "error": line(300), "continues": flag})


class Answer(NamedTuple):
    """One message of an answer. The receiver owns the descriptors."""

    parameters: Mapping[str, Any]
    error: str  # "" for a success; for our own errors without the interface's name
    continues: bool
    fds: list[int]
    sender: Sender | None


def read(method: str, message: Mapping[str, object], fds: list[int], sender: Sender | None) -> Answer:
    """Return a checked message, which answers a call of this method.

    Raises Unfit for a message that cannot be such an answer.
    """
    form = _FORM(message, "")
    error = form.get("error", "").removeprefix(f"{varlink.INTERFACE}.")
    shape = FAILURE if error else ANSWERS[method]
    parameters = shape(form.get("parameters", {}), "")
    if error:
        parameters.setdefault("reason", error)
    return Answer(parameters, error, form.get("continues", False), fds, sender)
