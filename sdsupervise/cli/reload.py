"""`sdsupervise reload`: asks for a reload and waits for its verdict. Exit status 0 only if the new code serves.

Every reload runs it as ExecReload=. So it imports what a terminal or several instances need only where it is used.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

from ..control.answers import Answer
from ..control.client import Client, control_path, runtime_directory
from ..errors import ExitStatus, HandoverError, ReloadFailed, ReloadGoesOn, SdsuperviseError, UsageError
from ..input.printable import as_sentence
from ..linux import process_title
from ..linux.channel import Sender
from . import target
from .reload_output import ReloadOutput
from .standard_output import outlive_reader

if TYPE_CHECKING:
    from .exec_reload import Successor
    from .unit_reload import UnitReload

_ANSWER_SECONDS = 10.0  # for the first answer


class _Quiet(ReloadOutput):
    """Prints nothing: ExecReload= writes to the unit's journal, where the supervisor has logged all of it."""

    def progress(self, facts: Mapping[str, object]) -> None:
        pass

    def done(self, facts: Mapping[str, object]) -> None:
        pass

    def failed(self, error: str, facts: Mapping[str, object], sender: Sender | None) -> None:
        pass


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "reload",
        help="move a running service to its new code",
        description="Start the new code beside the old code, let it take over, and wait for the verdict. Exit status "
        "0: the new code serves. Otherwise, standard error says why it does not, and whether the old code serves.",
        epilog="Several instances are reloaded one after another. The command stops at the first failure, and has "
        "its exit status. With --all or --outdated, an instance that you may not reload counts as refused (77), and "
        "the command goes on. An instance is outdated if its code, its sdsupervise, its directory, its configuration "
        "file or its unit has changed since it started. With reload_signal only a restart applies most of that: "
        "--outdated then names the instance, counts it as failed (1), and goes on. If the caller is root, or a user "
        "whose own systemd runs the instance, systemd reloads the unit and so applies the changes of the unit. If "
        "not, a line names the changes that are not applied. Ctrl-C (130) and --timeout (124) end the waiting, not the "
        "reload. While a reload runs, another one is refused (1); with systemctl it waits.",
    )
    target.add_arguments(parser, several=True)
    parser.add_argument("--all", action="store_true", help="every instance that runs")
    parser.add_argument("--outdated", action="store_true", help="only the outdated instances, see below")
    parser.add_argument("--dry-run", action="store_true", help="print which instances would be reloaded, and why")
    parser.add_argument("--keep-going", action="store_true", help="go on with the next instance if one fails")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="wait so many seconds at most for each verdict"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each step and verdict")
    parser.set_defaults(command=_reload)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _reload(parsed: argparse.Namespace) -> int:
    outlive_reader()
    if len(parsed.names) > 1 or parsed.all or parsed.outdated or parsed.dry_run:
        from . import several

        return several.reload(parsed, lambda name, path: _ask_for_user(parsed, name, path))
    if parsed.keep_going:
        raise UsageError("--keep-going is for several instances: name them, or use --all or --outdated.")
    path = target.socket_path(parsed)
    if {"INVOCATION_ID", "MAINPID"} <= os.environ.keys() and _is_of_our_unit(path):
        # After a change of RuntimeDirectory=, that is the new one, where nobody listens.
        return _reload_for_systemd(control_path(None) if runtime_directory() else path, parsed.timeout)
    return _ask_for_user(parsed, (parsed.names or [""])[0], path)


def _is_of_our_unit(path: str) -> bool:
    """Whether this may be the ExecReload= process of the supervisor with this control socket.

    Raises NotRunning, NotPermitted, HandoverError.
    """
    if runtime_directory() and path == control_path(None):
        return True
    connection = Client.connect(path, timeout_seconds=_ANSWER_SECONDS)
    try:
        sender = connection.ask("Status").sender
    finally:
        connection.close()
    return sender is not None and str(sender.pid) == os.environ["MAINPID"]


def _ask_for_user(parsed: argparse.Namespace, name: str, path: str) -> int:
    process_title.introduce(os.path.basename(name))
    process_title.show("reload")
    reporter = _reporter(parsed)
    try:
        return _ask_by_systemd(path, reporter, parsed.timeout, name)
    except ReloadFailed:
        raise
    except SdsuperviseError as error:
        reporter.lost(str(error))
        raise


def _ask_by_systemd(path: str, reporter: ReloadOutput, timeout_seconds: float | None, name: str) -> int:
    """Let systemd reload the unit if it runs the instance and we may ask it; else ask the supervisor."""
    from ..systemd import manager

    if manager.runs_this_machine():
        from . import unit_reload

        job = unit_reload.UnitReload(path)
        try:
            return ask(path, reporter, timeout_seconds, name=name, job=job)
        except unit_reload.AskSupervisor as why:
            if str(why):
                reporter.progress({"message": str(why)})
        finally:
            job.close()
    return ask(path, reporter, timeout_seconds, name=name)


def _reporter(parsed: argparse.Namespace) -> ReloadOutput:
    if not parsed.json and not sys.stdout.isatty():
        return ReloadOutput()
    from . import progress

    return progress.reporter(as_json=parsed.json)


def _reload_for_systemd(path: str, timeout_seconds: float | None) -> NoReturn:
    from . import exec_reload

    exec_reload.end(lambda: ask(path, _Quiet(), timeout_seconds, exec_reload.successor_of))


def ask(
    path: str,
    reporter: ReloadOutput,
    timeout_seconds: float | None,
    successor_of: "Callable[[str, int], Successor] | None" = None,
    *,
    name: str = "",
    job: "UnitReload | None" = None,
) -> int:
    """Reload the instance with this control socket, and wait for the verdict. Returns ExitStatus.OK.

    Only ExecReload= passes `successor_of`: it gives what this process will start, by the path and the uid of the
    listening process. With a `job`, systemd reloads the unit.

    Raises ReloadFailed, ReloadGoesOn, NotRunning, NotPermitted, HandoverError; AskSupervisor if the job is impossible.
    """
    reporter.begin(name)
    connection = Client.connect(path, timeout_seconds=_ANSWER_SECONDS)
    patience = _Patience(path, name, timeout_seconds)
    try:
        successor = successor_of(path, connection.listener_uid) if successor_of is not None else None
        answer = _last_answer(connection, reporter, patience, successor, job)
    except HandoverError:
        if job is None or not job.went_well(patience.seconds_left()):
            raise
        reporter.progress(
            {"verdict": "done", "message": "systemd reports that the reload succeeded; the supervisor sent no details."}
        )
        return ExitStatus.OK
    except KeyboardInterrupt:
        raise _goes_on("Interrupted", name, ExitStatus.INTERRUPTED) from None
    finally:
        reporter.end()
        connection.close()
    trouble = job.end() if job is not None else ""
    if answer.error:
        reporter.failed(answer.error, answer.parameters, answer.sender)
        raise _failure(answer)
    reporter.done(answer.parameters)
    if trouble:
        raise ReloadFailed(f"The new code serves, but systemd reports that the reload of its unit failed: {trouble}")
    return ExitStatus.OK


class _Patience:
    """The time limit for the verdict."""

    def __init__(self, path: str, name: str, timeout_seconds: float | None) -> None:
        self._path, self._name, self._timeout_seconds = path, name, timeout_seconds
        self._deadline = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.answered = False  # the supervisor has sent an answer

    def seconds_left(self) -> float:
        """Seconds until the limit; 0 or less after it."""
        return self._deadline - time.monotonic()

    def check(self) -> float:
        """Seconds until the limit. Raises ReloadGoesOn after it."""
        left = self.seconds_left()
        if left > 0:
            return left
        if self.answered:
            raise _goes_on(f"No verdict within {self._timeout_seconds:g} s", self._name, ExitStatus.TIMED_OUT)
        raise ReloadGoesOn(
            f"The supervisor on {self._path} has not answered in {self._timeout_seconds:g} s; it may hang, or it may "
            f"still reload.",
            ExitStatus.TIMED_OUT,
        )


def _last_answer(
    connection: Client,
    reporter: ReloadOutput,
    patience: _Patience,
    successor: "Successor | None",
    job: "UnitReload | None",
) -> Answer:
    """Ask the supervisor or systemd, report each answer, and start the successor on order. Returns the verdict."""

    def while_waiting() -> float:
        return min(patience.check(), reporter.tick(), job.tick() if job is not None else math.inf)

    answer = None
    method, wake_fds = ("Reload", None) if job is None else ("Follow", job.wake_fds)
    parameters = successor.parameters if successor is not None else {}
    for answer in connection.call(method, parameters, more=True, while_waiting=while_waiting, wake_fds=wake_fds):
        patience.answered = True
        if successor is not None and answer.parameters.get("spawn") is True:
            successor.spawn(answer)
            successor = successor._replace(record=None)  # at most one
        elif job is not None and answer.continues and not job.began:
            job.begin(answer.sender, reporter)
        elif answer.continues:
            reporter.progress(answer.parameters)
            if job is not None:
                job.has_progress = True
    assert answer is not None
    return answer


def _goes_on(why: str, name: str, status: ExitStatus) -> ReloadGoesOn:
    of_it = f" {name}" if name else ""
    return ReloadGoesOn(f"{why}: the reload goes on. 'sdsupervise status{of_it}' shows how it ends.", status)


def _failure(answer: Answer) -> SdsuperviseError:
    facts = answer.parameters
    reason = str(facts.get("reason", answer.error))
    stops = facts.get("stops") is True
    if answer.error != "ReloadFailed":
        return ReloadFailed(f"NOT RELOADED. {reason}", because_of_stop=stops)
    return ReloadFailed(f"NOT RELOADED: {as_sentence(reason)} {facts.get('outcome')}", because_of_stop=stops)
