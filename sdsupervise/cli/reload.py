"""`sdsupervise reload`: ask for a reload and wait for its verdict. Exit status 0 only if the new code serves."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping

from ..birth import bear
from ..client import Answer, Client
from ..errors import ExitStatus, HandoverError, ReloadFailed, SdsuperviseError
from ..linux.inheritance import Invocation
from . import target

_ANSWER_SECONDS = 10.0
_STOP_SIGNAL_SECONDS = 2.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "reload",
        help="move a running service to its new code",
        description="Start the new code beside the old, let it take over, and wait for the verdict. "
        "Exit status 0: the new code serves. Otherwise the old code still serves, and standard error says why.",
    )
    target.add_arguments(parser)
    parser.set_defaults(command=_reload)


def _reload(parsed: argparse.Namespace) -> int:
    invocation = os.environ.get("INVOCATION_ID", "") if "MAINPID" in os.environ else ""
    return _reload_for_systemd(parsed, invocation) if invocation else _ask(parsed, "")


def _reload_for_systemd(parsed: argparse.Namespace, invocation: str) -> int:
    """As an ExecReload= process. `systemctl stop` during a reload ends systemd's reload job and signals this process
    too: from then on any exit status but 0, and dying of the signal, would mark the unit failed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # of `systemctl kill -s USR2`
    patience = 0.0
    try:
        status = _ask(parsed, invocation)
    except SdsuperviseError as error:
        print(error, file=sys.stderr, flush=True)
        status = error.exit_status
        if isinstance(error, ReloadFailed) and error.because_of_stop:
            patience = _STOP_SIGNAL_SECONDS  # if it was systemd that asked, its signal to us is on the way
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a stop that began while Python tidies up would find us with a status that was right a moment ago.
    os._exit(ExitStatus.OK if signal.sigtimedwait({signal.SIGTERM}, patience) else status)


def _ask(parsed: argparse.Namespace, invocation: str) -> int:
    connection = Client.connect(target.socket_path(parsed), timeout_seconds=_ANSWER_SECONDS)
    # An ExecReload= process writes to the journal of its unit, where the supervisor has said all this already.
    quiet = bool(invocation)
    credentials = _credentials_of_unit(connection) if quiet else ""
    bears = quiet and (not credentials or os.access(credentials, os.R_OK | os.X_OK))
    if quiet and not bears:
        # systemd gives them to ExecStart= alone, and a mount namespace of our own hides them.
        print("The unit's credentials are out of reach here: this reload applies no change of the unit.", flush=True)
    answer = None
    for answer in connection.call("Reload", {"invocation_id": invocation, "bears": bears}, more=True):
        if "bear" in answer.parameters:
            _bear(answer, {"CREDENTIALS_DIRECTORY": credentials} if credentials else {})
        elif answer.continues and not quiet:
            print(answer.parameters.get("message", ""), flush=True)
    assert answer is not None
    if answer.error:
        raise _failure(answer, with_traceback=not quiet)
    if not quiet:
        print(_success(answer.parameters), flush=True)
    return ExitStatus.OK


def _credentials_of_unit(connection: Client) -> str:
    """$CREDENTIALS_DIRECTORY of the unit, "" for one that has none. systemd 252 sets it for ExecReload= too, 257 does
    not."""
    return str(connection.ask("Status").parameters.get("credentials_directory") or "")


def _bear(answer: Answer, more: Mapping[str, str]) -> None:
    """Fork and exec the successor here, in a child of systemd's with the unit's environment, limits and sandbox of
    today, and what more that lacks."""
    order = answer.parameters["bear"]
    if not isinstance(order, dict) or len(answer.fds) != 2:
        raise HandoverError("The supervisor sent an order to start its successor that this sdsupervise cannot read.")
    channel_fd, stderr_fd = answer.fds
    environment = {**os.environ, **more, **order["environment"]}
    try:
        # systemd has resolved WorkingDirectory= anew for us, so here is where the successor belongs.
        bear(Invocation(list(order["argv"]), "", environment), channel_fd, stderr_fd)
    finally:
        os.close(channel_fd)
        os.close(stderr_fd)


def _failure(answer: Answer, *, with_traceback: bool) -> SdsuperviseError:
    facts = answer.parameters
    reason = str(facts.get("reason", answer.error))
    if answer.error != "ReloadFailed":
        return ReloadFailed(f"NOT RELOADED. {reason}", because_of_stop=facts.get("serves") is False)
    traceback = str(facts.get("traceback", "")).strip()
    if traceback and with_traceback:
        print(traceback, file=sys.stderr)
    serving = f"Generation {facts.get('generation')}, {facts.get('code')}, still serves"
    if not facts.get("serves"):
        serving = "The service is stopping"
    elif facts.get("worker_was_stopped"):
        serving += "; its worker was stopped and is started anew"
        serving += " from what is on disk" * (facts.get("from_disk") is True)
    else:
        serving += "; its worker was never stopped"
    return ReloadFailed(f"NOT RELOADED: {reason.rstrip('.')}. {serving}.", because_of_stop=not facts.get("serves"))


def _success(facts: Mapping[str, object]) -> str:
    same = " (same code as before)" if facts.get("same_code") else ""
    return (
        f"RELOADED in {facts.get('seconds', 0):.2f} s: generation {facts.get('generation')} serves "
        f"{facts.get('code')}{same}; main pid {facts.get('old_pid')} -> {facts.get('pid')}"
    )
