"""What people and systemd ask of a supervisor, by signal or on the control socket, and what is refused."""

import logging
import os
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from .. import __version__
from ..control import varlink
from ..control.server import Call
from ..core.phases import PHASES
from ..core.takeover import State
from ..handover.reload import Reload
from ..input.printable import MOST_OF_REASON, fit, printable
from ..linux import privileges, processes
from ..linux.signals import DEADLY, PASSED_ON, SignalReceiver, has_no_handler
from ..linux.unpatched import signal
from ..systemd.catalog import CatalogEntry, entry_fields
from ..workers.pool import Pool
from . import scaling

_log = logging.getLogger("sdsupervise")

# What not everybody may call, and what for.
_COMMANDS = {"io.sdsupervise.Reload": "reload", "io.sdsupervise.Follow": "reload", "io.sdsupervise.Scale": "scale"}
_MOST_FOLLOWERS = 8
_LONGEST_WAIT_SECONDS = 3600.0  # of one who follows, for systemd to run ExecReload=: other jobs may come first
_DESCRIPTORS_OF_RELOAD = 16  # at most so many at once: of channel, token, pipes, barrier, lock, pidfds


class RequestsOwner(Protocol):
    """What requests ask of the supervisor that they are made to."""

    @property
    def state(self) -> State:
        """Where it stands."""

    @property
    def is_main(self) -> bool:
        """It is systemd's main pid, or would be."""

    @property
    def reload_waits(self) -> bool:
        """One has been asked for, and its turn has not come."""

    def facts(self) -> dict[str, object]:
        """What Status answers."""

    def code(self) -> dict[str, object]:
        """What Code answers."""

    def stop(self) -> None:
        """Stop the service."""

    def interrupt(self) -> None:
        """SIGINT: a stop by somebody who waits for it."""

    def pass_on(self, number: int) -> list[int]:
        """A signal to the workers that handle it; their pids."""

    def reload(self, reload: Reload) -> None:
        """Begin it, or let it wait."""

    def refuse(self, reload: Reload, why: str) -> None:
        """It never begins."""

    def scaled(self) -> None:
        """There are to be more workers, or fewer."""

    def ask_control_pid(self, on_answer: Callable[[int], None]) -> None:
        """Ask systemd for the process of our unit's ExecReload=; 0 if there is none."""


class Requests:
    """Takes them in."""

    def __init__(
        self,
        pool: Pool,
        owner: RequestsOwner,
        pool_size: scaling.PoolSize,
        *,
        stop_signals: Iterable[signal.Signals],
        why_never: str,
    ) -> None:
        """`why_never` says why the service cannot be reloaded at all, "" if it can.

        On a terminal SIGHUP is its end, and a stop as well. Without one it is what daemons get from whoever wants them
        to read or open a file anew.
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)  # what came since we were spawned; see handover/spawn.py

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._signals.fileno()

    def close_in_child(self) -> None:
        """In a freshly forked worker."""
        self._signals.close()

    def take_signals(self) -> None:
        """Do what the signals that have come ask for."""
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
        if self._owner.is_main:  # to whose pid they were sent, if not to all of the unit
            for foreign in sorted(numbers - self._stops - {signal.SIGUSR2, *scaling.SIGNALS}):
                self._take_foreign(foreign)

    def _take_foreign(self, number: int) -> None:
        """A signal that means nothing to us. It may be for the program: logrotate has it open its files anew. A worker
        without a handler for it would die of it."""
        name = processes.signal_name(number)
        pids = self._owner.pass_on(number) if number in self._passed_on else []
        if pids:
            _log.info("%s is passed on to pid %s", name, ", ".join(map(str, pids)))
        elif number in self._passed_on and number != signal.SIGWINCH:
            _log.warning("%s is ignored: no worker has a handler for it, so it would kill the workers", name)
        elif number != signal.SIGWINCH:
            _log.warning("%s is ignored: it has no meaning for a supervisor", name)

    def take_call(self, call: Call) -> None:
        """Do what a call on the control socket asks for."""
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
        """The users who may have us do something: root, and our own, a process of whom could stop us by signals too."""
        return {0} if self._is_nobody else {0, os.geteuid()}

    def _take_reload(self, call: Call) -> None:
        """Asked for by anybody who may, or by the process of ExecReload=, which can spawn the successor itself."""
        if call.parameters.get("exec_reload") is not True:
            self._begin_reload(call, by_systemd=False)
        elif not call.wants_more:
            call.fail(varlink.EXPECTED_MORE, {})  # the order to spawn one would not be its last answer
        elif call.uid == 0:
            self._begin_reload(call, by_systemd=True)
        else:
            self._owner.ask_control_pid(lambda pid: self._begin_reload(call, by_systemd=pid == call.pid))

    def _take_follower(self, call: Call) -> None:
        """One who is about to have systemd reload us. Where we would refuse that, nobody need trouble systemd."""
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
        """Answer what anybody may ask, and what changes nothing: a bug in sdsupervise there is no reason to leave."""
        try:
            call.reply(facts())
        except Exception:
            _log.critical("A bug in sdsupervise; please report it", exc_info=True, extra=entry_fields(CatalogEntry.BUG))
            call.hang_up()

    @staticmethod
    def _describe(call: Call) -> None:
        """From a file: no supervisor need have in memory what hardly anybody asks for."""
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
        state = self._owner.state
        if self._why_never:
            return self._why_never
        if state is State.OPENING:
            return "The service is not ready yet."
        if not self._owner.is_main and PHASES[state].is_succeeded:
            return "The next generation serves already; ask again."
        if PHASES[state].main_state == "stopping":
            return "The service is stopping."
        if state is not State.SERVING or self._owner.reload_waits:
            return "A reload is already in progress."
        if not processes.can_open(_DESCRIPTORS_OF_RELOAD):
            return "Too few file descriptors are left to reload with; raise the limit (LimitNOFILE=)."
        return ""

    def _scale(self, size: int | None, asked_by: str) -> str:
        """Have so many workers from now on; why not, if we do not."""
        now = self._pool.size
        refusal = scaling.why_not(self._pool_size, self._owner.state, size, is_main=self._owner.is_main)
        if not refusal and size is not None and not self._pool.has_room_for(size):
            refusal = "Too few file descriptors are left for so many workers; raise the limit (LimitNOFILE=)."
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
