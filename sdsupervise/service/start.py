"""From a parsed command line to a process that may begin, in the order of the steps:

1. plan.py: what the daemon asks for.
2. claim.py: what may need root's rights: lock, control socket, run directory and sockets.
3. rights.py: root's rights are dropped.
4. The service's code is loaded, as that user.
5. This module: sockets that only the code lists, the background, the pid file, the lock of a successor.

This order needs a user from a file or an option. If only the class names the user, root loads its code, and start()
makes the claim. failure.py reports why a process does not come this far.
"""

from collections.abc import Mapping

from ..code.code_version import pin_imports
from ..errors import ConfigError, SdsuperviseError
from ..handover.started import Started
from ..linux import inheritance
from ..linux.channel import Channel
from ..linux.pid_file import PidFile
from ..linux.unpatched import os
from ..sockets.listeners import Listening
from ..systemd import logs
from . import background, rights
from .claim import Claim, claim
from .failure import or_tell_reason
from .plan import Plan, wanted_listeners

_KNOWN_AHEAD = ("notify_command", "notify_timeout", "reload_timeout")  # used before the service's code is loaded


def tell_where_it_starts(settings: Mapping[str, object]) -> None:
    """Send the predecessor the directory of this successor, before any code is loaded, so that the caller sees it even
    if the load fails. Settings of the command line or the file that count from now on are sent too: notify_command and
    a longer reload_timeout.

    Does nothing outside a successor. Raises HandoverError.
    """
    handover = inheritance.inherited_handover(inheritance.this_invocation().environment)
    if handover is None:
        return
    named = inheritance.named_directory()
    real = os.getcwd() if named else ""
    channel = Channel.from_fd(handover[0])
    known = {name: settings[name] for name in _KNOWN_AHEAD if name in settings}
    channel.send("starts", (), place=named if named == real else f"{named} -> {real}", **known)
    channel.detach()


def start(plan: Plan, claimed: Claim | None = None) -> Started | int:
    """Prepare everything, with a claim that was made before or with a new one.

    Returns an exit status instead if this process has nothing more to do: it has reloaded a running daemon, or is the
    parent of a daemon in the background.

    Raises SdsuperviseError.
    """
    if claimed is None:
        made = claim(plan, drop=False)
        if isinstance(made, int):
            return made
        claimed = made
    pin_imports()
    if claimed.channel is not None:
        inheritance.adopt_stderr(claimed.own_stderr)
        # Now the journal may be the destination.
        logs.set_up(plan.name, generation=claimed.generation, silent=plan.silent, waits=not plan.supervised)
        return or_tell_reason(claimed.channel, lambda: _start_successor(plan, claimed))
    try:
        return _start_first(plan, claimed)
    except SdsuperviseError:
        claimed.give_back()
        raise


def _start_first(plan: Plan, claimed: Claim) -> Started | int:
    notifier, pid_file = claimed.notifier, claimed.pid_file
    assert pid_file is not None
    rights.warn_of_code(plan, claimed.identity)
    if plan.pid_file != (pid_file.name or None):
        raise ConfigError(
            f"{plan.name} names the pid file {plan.pid_file or '(none)'} in its code, but its code is loaded as uid "
            f"{os.geteuid()} after the pid file is opened. Set pid_file in the instance's file, or give --pid-file."
        )
    # Before the privileges are dropped, for ports below 1024; unless `claim` had to drop them already.
    listening = Listening(notifier)
    if plan.supervised:
        listening = Listening.begin(
            *(wanted_listeners(plan, claimed.identity), notifier, claimed.ahead),
            checked=plan.checked,
            drops=rights.drops(claimed.identity),
        )
    detaches = plan.detach and not notifier.active and claimed.init is None
    caller = background.go_to_background() if detaches else None
    pid_file.write_pid(os.getpid())
    if caller is not None:
        os.close(caller)
    rights.drop(claimed.identity, under_systemd=notifier.active)
    return Started(
        *(notifier, claimed.invocation, plan.read_code_version(), pid_file, claimed.control, listening),
        welcome=None,
        init=claimed.init,
    )


def _start_successor(plan: Plan, claimed: Claim) -> Started:
    channel, welcome, notifier = claimed.channel, claimed.welcome, claimed.notifier
    assert channel is not None and welcome is not None
    wanted = wanted_listeners(plan, claimed.identity)
    listening = Listening.inherit(
        *(wanted, welcome.listeners, welcome.fds, notifier, claimed.ahead),
        beside=plan.overlaps and welcome.overlaps,
        checked=plan.checked,
        drops=rights.drops(claimed.identity),
    )
    lanes, fds = listening.for_predecessor()
    channel.send("opened", fds, files=listening.files_made(), lanes=lanes)
    rights.drop(claimed.identity, under_systemd=notifier.active)
    lock = welcome.fds["lock"]
    pid_file = PidFile.through(lock, welcome.pid_file_name)
    os.close(lock)
    return Started(
        *(notifier, claimed.invocation, plan.read_code_version(), pid_file, claimed.control, listening),
        welcome=welcome,
        init=claimed.init,
    )
