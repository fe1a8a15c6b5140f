"""A reload, as one supervisor deals with it: the other supervisor, what crosses to it, and the verdict it is owed.

A supervisor has at most one peer: the predecessor it was born to follow, or the successor it is raising.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..core.takeover import Event, State
from ..input.printable import MOST_OF_REASON, as_sentence, fit, fit_failure, printable, reason_in
from ..linux.channel import Channel, Message
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from .counters import Counters
from .draining_generations import DrainingGenerations
from .peer import HANDOVER_VERSION, NotifySetting, Peer, PeerListener, Welcome, make_token, send_welcome
from .reload import OldCode, Reload, remark
from .spawn import spawn
from .started import Started

if TYPE_CHECKING:
    from ..hooks.stderr_tail import LastWords

_log = logging.getLogger("sdsupervise")

_STEPS = 20  # in which the warming up of a big pool is told


class Hooks(NamedTuple):
    """What a handover needs of its supervisor."""

    event: Callable[[Event], None]
    lock_may_be_free: Callable[[], None]
    unwanted: Callable[[], None]  # the predecessor lives and wants no successor any more
    caller: Callable[[int], None]  # a connection of the control socket the predecessor leaves to us
    named_main: Callable[[], None]  # the predecessor is telling systemd that we are the main pid
    passed_fds: Callable[[], dict[str, int]]  # descriptors a successor gets, by name
    workers: Callable[[], dict[int, int]]  # ours that live, pid to pidfd
    holders: Callable[[], dict[int, int]]  # who holds the lock for them
    pool: Callable[[], dict[str, object]]  # what a successor has to know of how many there are to be
    size: Callable[[], int]  # how many there are to be
    draining_gone: Callable[[], None]
    words_heard: Callable[[], None]  # nothing is being looked for any more, see listens_for_words
    put_off: Callable[[float], None]  # the peer was given so many seconds more for what we wait for
    bound_anew: Callable[[float], None]  # what we wait for has so many seconds from now, more or less than before
    gives_up: Callable[[float], None]  # the successor has said why it fails, and is gone in so many seconds
    lane_is_needed: Callable[[], None]  # by the generation after the next
    # A reload has it, and nobody else is to tell people; by the new code's notify_command, if the old one has none.
    verdict: Callable[[CatalogEntry, Mapping[str, object], NotifySetting | None], None]


class Handover:
    """The peer and the reload, of which the table decides and this keeps what is said and owed."""

    def __init__(
        self, loop: EventLoop, started: Started, settings: Settings, counters: Counters, *, hooks: Hooks
    ) -> None:
        self._loop, self._started, self._settings, self._hooks = loop, started, settings, hooks
        self._counters = counters
        self._patience = settings.takeover_timeout  # how long after a peer's channel its death may come
        self._waiting: Reload | None = None  # begins when the last generation's processes are gone
        self._last: Reload | None = None
        self._inherited: dict[str, object] | None = None  # the last reload, as the predecessor told of it
        if settings.executes:
            from ..hooks import stderr_tail  # noqa: F401  # not in the middle of an upgrade; a class leaves its traceback
        self._last_words: LastWords | None = None
        self._silent: int | None = None  # the worker of which no words were to be had
        self._verdict_due = False  # the predecessor has committed, and is about to tell that
        self._told_code = ""  # what the predecessor knows of ours
        self.reload: Reload | None = None  # the one that runs; a predecessor's
        self.peer: Peer | None = None
        self.generation = started.generation
        self.draining = DrainingGenerations(
            loop,
            PeerListener(self._draining_says, self._told, hooks.caller, hooks.lock_may_be_free, _not_listening),
            self._draining_gone,
        )

    @property
    def overlaps(self) -> bool:
        """Both services let the old workers serve on until the new ones do: so does this reload."""
        return self._settings.overlaps and self.peer is not None and self.peer.overlaps

    @property
    def remark(self) -> str:
        """One sentence about the last reload if there is anything to remember of it, else empty."""
        return remark(self.facts())

    @property
    def waits(self) -> bool:
        """A reload has been asked for and waits for its turn."""
        return self._waiting is not None

    def facts(self) -> dict[str, object] | None:
        """What status shows of the last reload."""
        return self._last.facts() if self._last is not None else self._inherited

    def close_in_child(self) -> None:
        """In a forked worker, its copies."""
        if self.peer is not None:
            self.peer.close_in_child()
        if self.reload is not None:
            self.reload.close_in_child()
        self.draining.close_in_child()

    # ------------------------------------------------------------------------------------- the reload and its caller

    def ask(self, reload: Reload, *, at_most: float) -> None:
        """Begin a reload, or let it wait, so many seconds at most, until the last generation has left."""
        if reload.not_applied:
            _log.warning("This reload applies no change of the unit: %s", reload.not_applied)
        if self.peer is not None:
            self._waiting = reload
            reload.enter("waiting", f"waiting for generation {self.peer.generation} to leave", at_most=at_most)
        else:
            self.reload = reload
            self._hooks.event(Event.RELOAD_ASKED)

    def let_drain(self) -> None:
        """The predecessor has committed: from now on it is one of those that drain, and the next reload may begin."""
        if self.peer is not None:
            due = time.monotonic() + self.peer.stop_timeout + self._patience
            self._verdict_due = self._inherited is None
            self.draining.see_out(self.peer, due=due)
            self.peer = None

    def settle(self) -> bool:
        """Forget a peer that left nothing behind, True if there was one; then begin the reload that waited for it."""
        forgotten = self.peer is not None and self.peer.left_nothing
        if self.peer is not None and forgotten:
            self.peer.forget()
            self.peer = None
            self._started.listening.undo_successor()
        if self.peer is None and self._waiting is not None:
            self.reload, self._waiting = self._waiting, None
            self._hooks.event(Event.RELOAD_ASKED)
        return forgotten

    def refuse_waiting(self) -> None:
        """The service stops: the reload that waits for its turn will never begin."""
        if self._waiting is not None:
            self.refuse(self._waiting, "The service is stopping.", stops=True)
            self._waiting = None

    def refuse(self, reload: Reload, why: str, *, stops: bool) -> None:
        """It never begins; `stops` says that the service is to end."""
        extra = entry_fields(CatalogEntry.RELOAD_REFUSED, verdict="refused", reason=why)
        _log.warning("Reload asked by %s refused: %s", reload.asked_by, why, extra=extra)
        reload.refuse(why, stops=stops)
        self._counters.count_reload(reload.facts())
        self.tell_counters()

    @property
    def listens_for_words(self) -> bool:
        """It is being looked for what a worker of the successor's has written before it died."""
        return self._last_words is not None

    def enter(self, state: State, sentence: str, *, at_most: float) -> None:
        """The caller of the reload hears of each phase, in a sentence, and how many seconds it may take; so does the
        log. A phase that is over at once needs no sentence."""
        if self.reload is None:
            return
        if state is State.YIELDING:
            self.reload.stopped_workers = True
        self.reload.enter(state.name.lower(), sentence, at_most=at_most)
        if state is State.STARTING_SUCCESSOR and self.reload.not_applied:
            self.reload.note(f"no change of the unit is applied: {self.reload.not_applied}")
        if sentence and state is State.STARTING_SUCCESSOR:
            extra = entry_fields(CatalogEntry.RELOAD_STARTED, reason=f"asked by {self.reload.asked_by}")
            _log.info("%s", sentence, extra=extra)
        elif sentence:
            _log.info("%s", sentence, extra=entry_fields(CatalogEntry.RELOAD_PHASE, phase=state.name.lower()))

    def answer_done(self) -> None:
        """Give the reload its verdict: the new code serves."""
        reload, peer = self.reload, self.peer
        if reload is None:
            return
        assert peer is not None
        # What a command loads is not for us to know.
        same = peer.code == str(self._started.code_version) and not self._settings.executes
        facts = {"generation": peer.generation, "pid": peer.pid, "code": peer.code, "same_code": same}
        old = {"old_generation": self.generation, "old_pid": os.getpid()}
        drains = {"drains_at_most": self._settings.stop_timeout} if self._hooks.workers() else {}
        reload.succeed({**facts, **old, **drains})
        self._end_reload(reload)
        self.tell("reloaded", facts=reload.facts())
        suffix = ", same code as before" * same
        extra = entry_fields(CatalogEntry.RELOADED, generation=peer.generation, verdict="done", seconds=reload.seconds)
        _log.info("Reloaded: generation %d serves %s%s", peer.generation, peer.code, suffix, extra=extra)

    def answer_failed(self, *, serving: int, trouble: str, stops: bool) -> None:
        """Give it the other one: so many of our workers serve, and why one does not; or the service stops."""
        reload, peer = self.reload, self.peer
        if reload is None:
            return
        assert peer is not None
        reason, traceback = ("A stop was asked.", "") if stops else _why_failed(reload, peer)
        old_code = OldCode(
            self.generation,
            str(self._started.code_version),
            workers=self._hooks.size(),
            serving=serving,
            trouble=trouble,
            was_stopped=reload.stopped_workers,
            from_disk=self._settings.executes,
            stops=stops,
        )
        reload.fail(reason, traceback, old_code.facts() | {"silent_worker": self._silent})
        self._end_reload(reload)
        entry = (
            CatalogEntry.RELOAD_STOPPED
            if stops
            else CatalogEntry.ROLLED_BACK
            if old_code.serves
            else CatalogEntry.NOBODY_SERVES
        )
        outcome = old_code.sentence()
        extra = entry_fields(entry, verdict="failed", seconds=reload.seconds, reason=reason)
        _log.error("Not reloaded: %s %s", as_sentence(reason), outcome, extra=extra)
        if entry is not CatalogEntry.RELOAD_STOPPED:
            facts = reload.facts()
            if entry is CatalogEntry.NOBODY_SERVES:
                facts["reason"] = f"{as_sentence(reason)} {outcome}"
            self._hooks.verdict(entry, facts, peer.hook)

    def _end_reload(self, reload: Reload) -> None:
        self._forget_words()
        self._silent = None
        self._counters.count_reload(reload.facts())
        self.tell_counters()
        self._last, self.reload = reload, None

    # ------------------------------------------------------------------------------------------------- the peer

    def tell_warm(self, ready: int, workers: int) -> None:
        """So many of our workers are ready: of a thousand the predecessor hears in steps, not of each."""
        if ready * _STEPS // workers != (ready - 1) * _STEPS // workers:
            self.tell("warm", ready=ready, workers=workers)

    def tell(self, say: str, **fields: str | int | Mapping[str, object]) -> None:
        """Say something to the peer, if there is one."""
        if self.peer is not None:
            self._tell_code(self.peer)
            self.peer.tell(say, (), **fields)

    def tell_reason(self, text: str, traceback: str = "", *, silent: int | None = None) -> None:
        """To the predecessor: why this reload is about to fail. A worker that left no word may have written some to the
        journal: `silent` is its pid."""
        whose = {"silent": silent} if silent is not None else {}
        self.tell("reason", text=fit(text, MOST_OF_REASON), traceback=fit_failure(traceback), **whose)

    def _tell_code(self, peer: Peer) -> None:
        """To a predecessor, what our workers have added to it."""
        if self._told_code and self._told_code != (code := str(self._started.code_version)):
            self._told_code = code
            peer.tell("code", (), code=code)

    def tell_counters(self) -> None:
        """To a successor that may have to go on with them."""
        if self.reload is not None:
            self.tell("counters", counts=self._counters.facts())

    def pass_on(self, number: int) -> list[int]:
        """A signal to the workers of all other generations that have a handler for it; their pids."""
        return [*(self.peer.pass_on(number) if self.peer is not None else ()), *self.draining.pass_on(number)]

    def extend(self, seconds: float) -> None:
        """A worker of ours is given more time; whoever waits for us is to know."""
        seconds += self._patience
        if self.peer is not None:
            self.peer.tell("extends", (), seconds=seconds)
        if self.reload is not None:
            self.reload.bound(f"a worker asks for up to {seconds:g} s more", at_most=seconds)

    def leave_caller(self, connection: int) -> bool:
        """Let the peer go on with a connection of the control socket; False if it cannot."""
        peer = self.peer
        return peer is not None and not peer.gone and peer.tell("caller", (connection,))

    def stop_peer(self) -> None:
        """Tell the peer of a stop."""
        if self.peer is not None and not self.peer.listens:
            self.peer.kill()  # still importing, which may take minutes, and it has nothing to finish
        self.tell("stop")

    def kill_peer(self) -> None:
        """SIGKILL the other supervisor; see Peer.kill."""
        if self.peer is not None and self.peer.kill():
            extra = entry_fields(CatalogEntry.GENERATION_KILLED, generation=self.peer.generation)
            _log.warning(
                "Killed the supervisor of generation %d (pid %s)", self.peer.generation, self.peer.pid, extra=extra
            )

    def start_successor(self) -> None:
        """Bear a successor, or order the caller to; its birth, or that there is none, comes over the channel."""
        reload = self.reload
        assert reload is not None
        self.draining.tell("lane")  # the successor takes the one that they may still be in
        channel, theirs = Channel.pair()
        reader, writer = os.pipe()
        self.peer = self._new_peer(channel, make_token(), self.generation + 1, self._settings.stop_timeout)
        self.peer.reload_timeout = self._settings.reload_timeout  # until it has said what its own settings ask for
        self._welcome(self.peer)
        self.tell_counters()
        reload.watch_stderr(self._loop, reader)
        invocation = self._started.invocation
        try:
            if reload.spawn_there and reload.call is not None:
                reload.call.progress({"spawn": True}, [theirs.fileno(), writer])
            else:
                spawn(invocation, theirs.fileno(), writer)
        except OSError as error:
            self.peer.reason = f"Cannot fork a new supervisor: {error.strerror}."
        finally:
            theirs.close()  # whoever bears it has a copy; where nobody has, the channel ends here
            os.close(writer)

    def meet_predecessor(self, welcome: Welcome) -> None:
        """Know the supervisor we were born to follow, and greet it."""
        fds = welcome.fds
        self.peer = peer = self._new_peer(
            welcome.channel, fds["token"], welcome.predecessor_generation, welcome.stop_timeout
        )
        peer.listens = True
        peer.overlaps = welcome.overlaps
        peer.barrier_timeout = welcome.barrier_timeout
        peer.meet(welcome.predecessor_pid, fds["predecessor"])
        self.draining.inherit(welcome.draining, fds)
        settings = self._settings
        self._told_code = str(self._started.code_version)
        peer.tell(
            "hello",
            version=HANDOVER_VERSION,
            stop_timeout=settings.stop_timeout,
            code=self._told_code,
            overlaps=settings.overlaps,
            check_timeout=settings.check_timeout,
            start_allowance=settings.start_allowance,
            probation=settings.probation,
            reload_timeout=settings.reload_timeout,
            notify_command=list(settings.notify_command),
            notify_timeout=settings.notify_timeout,
        )

    def _new_peer(self, channel: Channel, token: int, generation: int, stop_timeout: float) -> Peer:
        hooks = self._hooks
        listener = PeerListener(
            *(self._peer_says, self._told, hooks.caller, hooks.lock_may_be_free, self._hung_up), self._successor_opened
        )
        return Peer(self._loop, channel, token, listener, generation=generation, stop_timeout=stop_timeout)

    def _welcome(self, peer: Peer) -> None:
        """Tell the successor all it needs to know, before it exists: it must find this first in its channel, ahead of
        any news of our workers, and find it also if we are dead by then."""
        ours = os.pidfd_open(os.getpid())
        draining, fds_of_draining = self.draining.passed_fds()
        send_welcome(
            peer,
            {"predecessor": ours, "token": peer.token, **self._hooks.passed_fds(), **fds_of_draining},
            generation=peer.generation,
            predecessor_generation=self.generation,
            pid=os.getpid(),
            stop_timeout=self._settings.stop_timeout,
            pid_file=self._started.pid_file.name,
            overlaps=self._settings.overlaps,
            barrier_timeout=self._settings.barrier_timeout,
            listeners=self._started.listening.for_successor(),
            draining=draining,
            pool=self._hooks.pool(),
        )
        peer.tell_workers(self._hooks.workers(), self._hooks.holders())
        os.close(ours)

    def _peer_says(self, event: Event) -> None:
        if event is Event.PEER_ASKS_YIELD and self.overlaps:
            event = Event.PEER_ASKS_LOCK
        self._hooks.event(event)

    def _refuse_beside_draining(self, peer: Peer) -> None:
        """New code that may not serve beside any other cannot take over while older generations finish their work."""
        at_work = self.draining.at_work()
        if at_work and not self.overlaps:
            peer.reason = f"The new code is exclusive, and {at_work} still drains; reload again when it has left."
            self.kill_peer()

    def _look_for_words(self, peer: Peer, reload: Reload, silent: object) -> None:
        if self._last_words is not None or not isinstance(silent, int) or not peer.knows_worker(silent):
            return
        if not self._settings.executes:  # a class's supervisor has nothing to look with
            self._hear_words(peer, silent, "", looked=False)
            return
        from ..hooks.stderr_tail import LastWords

        hear = partial(self._hear_words, peer, silent)
        self._last_words = LastWords(self._loop, silent, reload.asked_at, hear)

    def _hear_words(self, peer: Peer, pid: int, words: str, looked: bool) -> None:
        self._last_words = None
        if words:
            peer.reason = fit(f"{peer.reason.rstrip('.')}: {reason_in(words)}", MOST_OF_REASON)
            peer.traceback = fit_failure(words)
        elif not looked:
            self._silent = pid
            peer.reason = f"{peer.reason.rstrip('.')}; journalctl _PID={pid} has what it wrote"
        self._hooks.words_heard()

    def _forget_words(self) -> None:
        if self._last_words is not None:
            self._last_words.cancel()
            self._last_words = None

    def _bound_by_successor(self, peer: Peer, reload_timeout: float) -> None:
        """The new settings count, also for the reload that brings them: from now on, and it gives up by itself then."""
        changed, peer.reload_timeout = reload_timeout != peer.reload_timeout, reload_timeout
        left = reload_timeout + self._patience
        self._hooks.bound_anew(left)
        if self.reload is not None:
            told = f"generation {peer.generation} has {reload_timeout:g} s to get ready (reload_timeout)"
            self.reload.bound(told if changed else "", at_most=left + self._patience)

    def _draining_gone(self) -> None:
        if self._verdict_due and self.generation - 1 not in self.draining:
            self._verdict_due = False  # killed between its commit and the verdict, which is ours to tell then
            self._hooks.verdict(CatalogEntry.RELOADED, {}, None)
        self._hooks.draining_gone()

    def _draining_says(self, event: Event) -> None:
        if event is Event.PEER_STOPS:  # somebody sent the stop to a generation that drains; it means the service
            self._hooks.event(Event.STOP_ASKED)

    def _told(self, message: Message) -> None:
        fields, peer = message.fields, self.peer
        match message.kind:
            case "starts" if peer is not None and self.reload is not None:
                peer.note_notify_setting(message)
                if fields["place"]:
                    self.reload.note(f"generation {peer.generation} starts in {fields['place']}")
                if fields.get("reload_timeout", 0.0) > peer.reload_timeout:  # a shorter one is for its workers
                    self._bound_by_successor(peer, fields["reload_timeout"])
            case "hello" if peer is not None and not peer.listens:
                peer.listens = True
                peer.note_notify_setting(message)
                peer.code = fields["code"]
                peer.overlaps = fields.get("overlaps", False)
                peer.stop_timeout = fields["stop_timeout"]
                peer.check_timeout = fields.get("check_timeout", 0.0)
                peer.start_allowance = fields.get("start_allowance", 0.0)
                peer.probation = fields.get("probation", 0.0)
                if self.reload is not None:
                    self.reload.note(f"generation {peer.generation} is {peer.code}")
                self._bound_by_successor(peer, fields.get("reload_timeout", peer.reload_timeout))
                self._refuse_beside_draining(peer)
            case "code" if peer is not None and peer.code != fields["code"]:
                peer.code = fields["code"]
                if self.reload is not None:
                    self.reload.note(f"generation {peer.generation} is {peer.code}")
            case "warm" if peer is not None:
                peer.ready = fields["ready"]
                if self.reload is not None:
                    self.reload.count(peer.ready, fields["workers"])
            case "extends" if peer is not None:
                self._hooks.put_off(fields["seconds"])
            case "lane":
                self._hooks.lane_is_needed()
            case "naming":
                self._hooks.named_main()
            case "reloaded":
                self._inherited = fields["facts"]
                self._verdict_due = False
                self._hooks.verdict(CatalogEntry.RELOADED, self._inherited or {}, None)
            case "reason" if peer is not None and self.reload is not None:
                self._hooks.gives_up(peer.stop_timeout + self._patience)
                self._look_for_words(peer, self.reload, fields.get("silent"))
            case "counters":
                self._counters.inherit(fields["counts"])
            case kind:
                _log.debug("Another generation says %r, which this release does not know, ignoring", kind)

    def _successor_opened(self, message: Message) -> None:
        if self.reload is None:
            message.close_fds()
            return
        fields = message.fields
        self._started.listening.note_successor(fields["files"], fields.get("lanes", ()), message.fds)

    def _hung_up(self) -> None:
        # A dying process closes its files before it is seen dead, so its death has time to arrive.
        self._loop.call_later(self._patience, self._see_whether_unwanted)

    def _see_whether_unwanted(self) -> None:
        if self.peer is not None and not self.peer.gone:
            self._hooks.unwanted()


def _not_listening() -> None:
    """What a draining generation that hangs up does not matter for."""


def _why_failed(reload: Reload, peer: Peer) -> tuple[str, str]:
    """The reason and the traceback, "" where there is none: a service's own text, for the terminals of others, root's
    too."""
    said = fit_failure(printable(reload.last_words()))
    if peer.reason:
        return printable(peer.reason), printable(peer.traceback) or said
    return reason_in(said) or "The new supervisor died without a word.", said
