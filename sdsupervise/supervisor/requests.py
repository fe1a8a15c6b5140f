"""The requests of operators and systemd, by signal or on the control socket, and the reasons to refuse them."""

import logging
import os
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from .. import __version__
from ..control import varlink
from ..control.server import Call
from ..core.takeover import State
from ..handover.reload import Reload
from ..input.printable import MOST_OF_REASON, fit, printable
from ..linux import privileges, processes
from ..linux.signals import DEADLY, PASSED_ON, SignalReceiver, has_no_handler
from ..linux.unpatched import signal
from ..systemd.catalog import CatalogEntry, entry_fields
from ..workers import refused
from ..workers.pool import Pool
from . import scaling
from .refusals import too_few_descriptors, why_refused

_log = logging.getLogger("sdsupervise")

# Methods that only root and the service's user may call, and what they do.
_COMMANDS = {"io.sdsupervise.Reload": "reload", "io.sdsupervise.Follow": "reload", "io.sdsupervise.Scale": "scale"}
_MOST_FOLLOWERS = 8  # of one reload
_LONGEST_WAIT_SECONDS = 3600.0  # for a follower, until systemd runs ExecReload=; systemd may run other jobs first
_DESCRIPTORS_OF_RELOAD = 16  # that a reload needs at once: channel, token, pipes, barrier, lock, pidfds


class RequestsOwner(Protocol):
    """What requests need from their supervisor."""

    @property
    def state(self) -> State:
        """The supervisor's state."""

    @property
    def is_main(self) -> bool:
        """Whether it has the main role; see main_role.py."""

    @property
    def reload_waits(self) -> bool:
        """Whether a reload waits for its turn, or for the effect of a signal."""

    def facts(self) -> dict[str, object]:
        """The answer to Status."""

    def code(self) -> dict[str, object]:
        """The answer to Code."""

    def stop(self) -> None:
        """Stop the service."""

    def interrupt(self) -> None:
        """SIGINT: stop the service; the operator waits for that."""

    def pass_on(self, number: int) -> list[int]:
        """Pass a signal on to the workers that have a handler for it. Returns their pids."""

    def reload(self, reload: Reload) -> None:
        """Begin this reload, or let it wait."""

    def refuse(self, reload: Reload, why: str) -> None:
        """Refuse this reload."""

    def scaled(self) -> None:
        """The number of workers was changed."""

    def ask_control_pid(self, on_answer: Callable[[int], None]) -> None:
        """Ask systemd for the pid of our ExecReload= process, and call `on_answer` with it; 0 if there is none."""


class Requests:
    """Receives all requests."""

    def __init__(
        self,
        pool: Pool,
        owner: RequestsOwner,
        pool_size: scaling.PoolSize,
        *,
        stop_signals: Iterable[signal.Signals],
        why_never: str,
    ) -> None:
        """`why_never` is the reason why the service can never be reloaded; "" if it can.

        With a terminal, SIGHUP means its end, and stops the service. Without one, SIGHUP usually asks a daemon to read
        or open a file again.
        """
        self._pool, self._owner, self._pool_size = pool, owner, pool_size
        self._why_never = why_never
        self._followers: list[Call] = []  # of the next reload
        self._is_nobody = not privileges.is_unambiguous(os.geteuid())
        self._stops: frozenset[int] = frozenset({*stop_signals, signal.SIGTERM})
        self._passed_on = PASSED_ON
        if processes.has_terminal():
            self._passed_on -= {signal.SIGHUP, signal.SIGWINCH}
            self._stops |= {signal.SIGHUP} if has_no_handler(signal.SIGHUP) else set()
        others = {number for number in DEADLY | self._passed_on if has_no_handler(number)}
        self._signals = SignalReceiver({*self._stops, signal.SIGUSR2, *scaling.SIGNALS, *others})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)  # blocked since the spawn; see handover/spawn.py

    def fileno(self) -> int:
        """The descriptor that is readable after a signal."""
        return self._signals.fileno()

    def close_in_child(self) -> None:
        """Close a forked worker's copy of the descriptor."""
        self._signals.close()

    def take_signals(self) -> None:
        """Handle the signals that have arrived."""
        numbers = self._signals.read()
        stops = numbers & self._stops
        if signal.SIGINT in stops:
            self._owner.interrupt()
        elif stops:
            self._owner.stop()
        if signal.SIGUSR2 in numbers:
            self._reload(Reload("SIGUSR2", None, by_systemd=False, spawn_there=False))
        for number in scaling.SIGNALS.keys() & numbers:
            change = scaling.SIGNALS[signal.Signals(number)]
            self._scale(self._pool.size + change, processes.signal_name(number))
        if self._owner.is_main:  # signals are sent to the main pid, or to the whole unit
            for foreign in sorted(numbers - self._stops - {signal.SIGUSR2, *scaling.SIGNALS}):
                self._take_foreign(foreign)

    def _take_foreign(self, number: int) -> None:
        """Handle a signal without a meaning for a supervisor: pass it on to workers that have a handler for it.

        For example, logrotate asks a program by a signal to open its files again. A worker without a handler would die.
        """
        name = processes.signal_name(number)
        pids = self._owner.pass_on(number) if number in self._passed_on else []
        if pids:
            _log.info("%s is passed on to pid %s", name, ", ".join(map(str, pids)))
        elif number in self._passed_on and number != signal.SIGWINCH:
            _log.warning("%s is ignored: no worker has a handler for it, so it would kill the workers", name)
        elif number != signal.SIGWINCH:
            _log.warning("%s is ignored: it has no meaning for a supervisor", name)

    def take_call(self, call: Call) -> None:
        """Handle a call on the control socket."""
        if call.method not in varlink.METHODS:
            call.fail(varlink.METHOD_NOT_FOUND, {"method": call.method})
            return
        wrong = varlink.wrong_parameter(call.method, call.parameters)
        if wrong:
            call.fail(varlink.INVALID_PARAMETER, {"parameter": wrong})
            return
        match call.method:
            case "io.sdsupervise.Status":
                self._tell(call, self._owner.facts)
            case "io.sdsupervise.Code":
                self._tell(call, self._owner.code)
            case method if method in _COMMANDS and call.uid not in self.commanders:
                who = "root" if self._is_nobody else f"root and uid {os.geteuid()}"
                why = f" (uid {os.geteuid()} stands for every user that PrivateUsers= hides)" * self._is_nobody
                reason = f"Only {who} may {_COMMANDS[method]}{why}."
                call.fail(varlink.PERMISSION_DENIED, {"reason": reason})
            case "io.sdsupervise.Scale":
                size = scaling.wanted_size(call.parameters, self._pool.size)
                refusal = self._scale(size, f"pid {call.pid}, uid {call.uid}")
                if refusal:
                    call.fail("ScaleRefused", {"reason": refusal, "workers": self._pool.size})
                else:
                    call.reply({"workers": size})
            case "io.sdsupervise.Reload":
                self._take_reload(call)
            case "io.sdsupervise.Follow":
                self._take_follower(call)
            case "org.varlink.service.GetInfo":
                info = {"vendor": "sdsupervise", "product": "sdsupervise", "version": __version__, "url": ""}
                call.reply({**info, "interfaces": varlink.INTERFACES})
            case "org.varlink.service.GetInterfaceDescription":
                self._describe(call)

    @property
    def commanders(self) -> Collection[int]:
        """The uids that may command a supervisor: root, and our own, whose processes could also stop us by a signal."""
        return {0} if self._is_nobody else {0, os.geteuid()}

    def _take_reload(self, call: Call) -> None:
        """Handle Reload. The caller is a permitted user, or the ExecReload= process, which can spawn the successor."""
        if call.parameters.get("exec_reload") is not True:
            self._begin_reload(call, by_systemd=False)
        elif not call.wants_more:
            call.fail(varlink.EXPECTED_MORE, {})  # the caller gets an order to spawn before the last answer
        elif call.uid == 0:
            self._begin_reload(call, by_systemd=True)
        else:
            self._owner.ask_control_pid(lambda pid: self._begin_reload(call, by_systemd=pid == call.pid))

    def _take_follower(self, call: Call) -> None:
        """Handle Follow, from a caller that will ask systemd to reload us. A refusal comes before systemd is asked."""
        if not call.wants_more:
            call.fail(varlink.EXPECTED_MORE, {})
        elif refusal := self._why_no_reload():
            asked_by = f"pid {call.pid}, uid {call.uid}"
            self._owner.refuse(Reload(asked_by, call, by_systemd=False, spawn_there=False), refusal)
        else:
            call.progress({"at_most": _LONGEST_WAIT_SECONDS})
            self._followers.append(call)
            if len(self._followers) > _MOST_FOLLOWERS:
                self._followers.pop(0).hang_up()

    def _begin_reload(self, call: Call, *, by_systemd: bool) -> None:
        asked_by = f"systemd (pid {call.pid})" if by_systemd else f"pid {call.pid}, uid {call.uid}"
        spawns = by_systemd and call.parameters.get("spawns") is True
        why_not = ""
        if by_systemd and not spawns:
            said = printable(str(call.parameters.get("why_not") or ""))
            why_not = fit(said, MOST_OF_REASON).rstrip(".") or "ExecReload= did not start the new generation"
        reload = Reload(asked_by, call, by_systemd=by_systemd, spawn_there=spawns, not_applied=why_not)
        self._reload(reload)

    @staticmethod
    def _tell(call: Call, facts: Callable[[], dict[str, object]]) -> None:
        """Answer a call that changes nothing. A bug in such an answer must not end the supervisor."""
        try:
            call.reply(facts())
        except Exception:
            _log.critical("A bug in sdsupervise; please report it", exc_info=True, extra=entry_fields(CatalogEntry.BUG))
            call.hang_up()

    @staticmethod
    def _describe(call: Call) -> None:
        """Answer with an interface description, read from its file: callers rarely ask for it."""
        interface = call.parameters.get("interface")
        if interface is None:
            call.fail(varlink.INVALID_PARAMETER, {"parameter": "interface"})
        elif interface not in varlink.INTERFACES:
            call.fail(varlink.INTERFACE_NOT_FOUND, {"interface": interface})
        else:
            try:
                with open(os.path.join(os.path.dirname(varlink.__file__), f"{interface}.varlink")) as file:
                    call.reply({"description": file.read()})
            except OSError:  # the package was removed, or this process may not read it
                call.fail(varlink.INTERFACE_NOT_FOUND, {"interface": interface})

    def _reload(self, reload: Reload) -> None:
        reload.followers, self._followers = self._followers, []
        refusal = self._why_no_reload()
        if refusal:
            self._owner.refuse(reload, refusal)
        else:
            self._owner.reload(reload)

    def _why_no_reload(self) -> str:
        in_reload = "A reload is already in progress."
        if self._why_never:
            return self._why_never
        if refusal := why_refused(self._owner.state, is_main=self._owner.is_main, in_reload=in_reload):
            return refusal
        if self._owner.reload_waits:
            return in_reload
        if not processes.can_open(_DESCRIPTORS_OF_RELOAD):
            return too_few_descriptors("to reload with")
        return refused.why_not_stoppable(self._pool.workers.values())

    def _scale(self, size: int | None, asked_by: str) -> str:
        """Change the number of workers. Returns the reason if that is refused, else ""."""
        now = self._pool.size
        refusal = scaling.why_not(self._pool_size, self._owner.state, size, is_main=self._owner.is_main)
        if not refusal and size is not None and not self._pool.has_room_for(size):
            refusal = too_few_descriptors("for so many workers")
        if size is None or refusal:
            _log.warning(
                "Scaling asked by %s refused: %s",
                asked_by,
                refusal,
                extra=entry_fields(CatalogEntry.SCALING_REFUSED, reason=refusal),
            )
        elif size != now:
            extra = entry_fields(CatalogEntry.SCALED, reason=f"asked by {asked_by}")
            _log.info("Scaling from %d to %d workers, asked by %s", now, size, asked_by, extra=extra)
            self._pool.scale(size)
            self._owner.scaled()
        return refusal
