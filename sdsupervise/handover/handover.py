"""A reload from the side of one supervisor: its peer, the messages to and from it, and the verdict.

A supervisor has at most one peer: the predecessor that it follows, or the successor that it starts.
"""

import logging
import os
import time
from collections.abc import Mapping

from ..control.server import ControlServer
from ..core.takeover import Event
from ..input.printable import MOST_OF_REASON, fit, fit_failure
from ..linux.channel import Channel, Message
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from ..workers.pool import Pool
from .counters import Counters
from .draining_generations import DrainingGenerations
from .failed_reload import fail
from .handover_owner import HandoverOwner
from .lock import Lock
from .messages import HANDOVER_VERSION
from .peer import Peer, make_token
from .reload import OldCode, Reload
from .reloads import Reloads
from .spawn import spawn
from .started import Started
from .welcome import Welcome, send_welcome
from .words_search import WordsSearch, why_failed

_log = logging.getLogger("sdsupervise")

_STEPS = 20  # progress messages at most while a big pool gets ready
_OF_SUCCESSOR = ("starts", "hello", "code", "warm", "extends", "reason")


class Handover:
    """The peer and the reload. The takeover table decides; this class keeps the messages and the open replies."""

    def __init__(
        self,
        loop: EventLoop,
        started: Started,
        settings: Settings,
        counters: Counters,
        owner: HandoverOwner,
        *,
        pool: Pool,
        configured_workers: int,
        lock: Lock,
        control: ControlServer | None,
    ) -> None:
        self._loop, self._started, self._settings, self._owner = loop, started, settings, owner
        self._pool, self._configured_workers, self._lock, self._control = pool, configured_workers, lock, control
        self._counters = counters
        self._patience = settings.takeover_timeout  # seconds between the end of a peer's channel and its death
        self._words = WordsSearch(loop, executes=settings.executes, on_end=owner.reconsider)
        self._verdict_due = False  # the predecessor has committed, and will send the verdict
        self._sent_code = ""  # our code version as last sent to the predecessor
        self.reloads = Reloads(counters)
        self.peer: Peer | None = None
        self.generation = started.generation
        self.draining = DrainingGenerations(loop, self)

    @property
    def overlaps(self) -> bool:
        """Whether this reload overlaps: both sides let the old workers serve until the new ones do."""
        return self._settings.overlaps and self.peer is not None and self.peer.overlaps

    def close_in_child(self) -> None:
        """Close a forked worker's copies of the descriptors."""
        if self.peer is not None:
            self.peer.close_in_child()
        self.reloads.close_in_child()
        self.draining.close_in_child()

    # ------------------------------------------------------------------------------------- the reload and its caller

    def ask(self, reload: Reload, *, at_most: float) -> None:
        """Begin a reload, or let it wait for the peer to leave, `at_most` so many seconds."""
        if self.peer is not None:
            self.reloads.wait(reload, self.peer.generation, at_most=at_most)
        else:
            self.reloads.running = reload
            self._owner.happen(Event.RELOAD_ASKED)

    def let_drain(self) -> None:
        """The predecessor has committed: it drains from now on, and the next reload may begin."""
        if self.peer is not None:
            due = time.monotonic() + self.peer.stop_timeout + self._patience
            self._verdict_due = not self.reloads.knows_predecessors
            self.draining.watch_until_gone(self.peer, due=due)
            self.peer = None

    def settle(self) -> bool:
        """Forget a peer that left nothing behind, and begin the reload that waited for it.

        Returns whether there was such a peer.
        """
        forgotten = self.peer is not None and self.peer.left_nothing
        if self.peer is not None and forgotten:
            self.peer.forget()
            self.peer = None
            self._started.listening.undo_successor()
        if self.peer is None and self.reloads.waiting is not None:
            self.reloads.begin_waiting()
            self._owner.happen(Event.RELOAD_ASKED)
        return forgotten

    def refuse_waiting(self) -> None:
        """Refuse the waiting reload, because the service stops."""
        if self.reloads.waiting is not None:
            self.refuse(self.reloads.waiting, "The service is stopping.", stops=True)
            self.reloads.waiting = None

    def refuse(self, reload: Reload, why: str, *, stops: bool) -> None:
        """Refuse a reload that has not begun; `stops` says that the service stops."""
        self.reloads.refuse(reload, why, stops=stops)
        self.tell_counters()

    @property
    def searches_words(self) -> bool:
        """Whether the search in the journal for the output of a dead worker still runs."""
        return self._words.looks

    def answer_done(self) -> None:
        """Give the reload its verdict: the new code serves."""
        reload, peer = self.reloads.running, self.peer
        if reload is None:
            return
        assert peer is not None
        # The supervisor does not know what a command loads.
        same = peer.code == str(self._started.code_version) and not self._settings.executes
        facts = {"generation": peer.generation, "pid": peer.pid, "code": peer.code, "same_code": same}
        old = {"old_generation": self.generation, "old_pid": os.getpid()}
        drains = {"drains_at_most": self._settings.stop_timeout} if self._pool.workers else {}
        reload.succeed({**facts, **old, **drains})
        self._end_reload()
        self.tell("reloaded", facts=reload.facts())
        suffix = ", same code as before" * same
        extra = entry_fields(CatalogEntry.RELOADED, generation=peer.generation, verdict="done", seconds=reload.seconds)
        _log.info("Reloaded: generation %d serves %s%s", peer.generation, peer.code, suffix, extra=extra)

    def answer_failed(self, *, stops: bool) -> None:
        """Give the reload its verdict: it failed, and the old code serves, or does not; or the service stops."""
        reload, peer = self.reloads.running, self.peer
        if reload is None:
            return
        assert peer is not None
        reason, traceback = ("A stop was requested.", "") if stops else why_failed(reload, peer)
        old_code = OldCode.now(
            *(self._started, self._pool),
            was_stopped=reload.stopped_workers,
            from_disk=self._settings.executes,
            stops=stops,
        )
        entry, facts = fail(reload, reason, old_code, traceback=traceback, silent=self._words.silent)
        self._end_reload()
        if not stops:
            self._owner.reload_ended(entry, facts, peer.notify_setting)

    def _end_reload(self) -> None:
        self._words.forget()
        self.reloads.end(tell_counters=self.tell_counters)

    # ------------------------------------------------------------------------------------------------- the peer

    def tell_warm(self, ready: int, workers: int) -> None:
        """Send how many of our workers are ready. With a thousand workers, send it in steps."""
        if ready * _STEPS // workers != (ready - 1) * _STEPS // workers:
            self.tell("warm", ready=ready, workers=workers)

    def tell(self, say: str, **fields: str | int | Mapping[str, object]) -> None:
        """Send a message to the peer, if there is one."""
        if self.peer is not None:
            self._tell_code(self.peer)
            self.peer.tell(say, (), **fields)

    def tell_reason(self, text: str, traceback: str = "", *, silent: int | None = None) -> None:
        """Send the predecessor the reason why this reload is about to fail; `silent` is the pid of a worker that gave
        no reason itself, whose output the journal may have."""
        whose = {"silent": silent} if silent is not None else {}
        self.tell("reason", text=fit(text, MOST_OF_REASON), traceback=fit_failure(traceback), **whose)

    def _tell_code(self, peer: Peer) -> None:
        """Send the predecessor our code version, if our workers have added modules to it."""
        if self._sent_code and self._sent_code != (code := str(self._started.code_version)):
            self._sent_code = code
            peer.tell("code", (), code=code)

    def tell_counters(self) -> None:
        """Send all counts to the successor, if there is one."""
        if self.reloads.running is not None:
            self.tell("counters", counts=self._counters.facts())

    def pass_on(self, number: int) -> list[int]:
        """Pass a signal on to the workers of all other generations that have a handler for it. Returns their pids."""
        return [*(self.peer.pass_on(number) if self.peer is not None else ()), *self.draining.pass_on(number)]

    def extend(self, seconds: float) -> None:
        """A worker of ours gets this many seconds more: inform the peer and the caller, which wait for us."""
        seconds += self._patience
        if self.peer is not None:
            self.peer.tell("extends", (), seconds=seconds)
        self.reloads.bound(f"a worker asks for up to {seconds:g} s more", at_most=seconds)

    def leave_caller(self, connection: int) -> bool:
        """Pass a connection of the control socket to the peer. Returns False if the peer cannot take it."""
        peer = self.peer
        return peer is not None and not peer.gone and peer.tell("caller", (connection,))

    def stop_peer(self) -> None:
        """Pass a stop request on to the peer."""
        if self.peer is not None and not self.peer.listens:
            self.peer.kill()  # it still imports, perhaps for minutes, and has no work to finish
        self.tell("stop")

    def kill_peer(self) -> None:
        """SIGKILL the peer; see Peer.kill."""
        if self.peer is not None and self.peer.kill():
            extra = entry_fields(CatalogEntry.GENERATION_KILLED, generation=self.peer.generation)
            _log.warning(
                "Killed the supervisor of generation %d (pid %s)", self.peer.generation, self.peer.pid, extra=extra
            )

    def kill_peer_workers(self) -> None:
        """SIGKILL the remaining workers of the peer; see Peer.kill_workers."""
        if self.peer is not None:
            self.peer.kill_workers()

    def start_successor(self) -> None:
        """Start a successor, or order the caller to do it. Its process is announced on the channel; see Peer."""
        reload = self.reloads.running
        assert reload is not None
        self.draining.tell("lane")  # the successor takes the lane that they may still use
        channel, theirs = Channel.pair()
        reader, writer = os.pipe()
        self.peer = self._new_peer(channel, make_token(), self.generation + 1, self._settings.stop_timeout)
        self.peer.reload_timeout = self._settings.reload_timeout  # until it sends its own setting
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
            self.peer.reason = f"Cannot fork the successor: {error.strerror}."
        finally:
            theirs.close()  # the spawning process has a copy; without one, the channel ends here
            os.close(writer)

    def meet_predecessor(self, welcome: Welcome) -> None:
        """Set up the predecessor as our peer, and send it "hello"."""
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
        self._sent_code = str(self._started.code_version)
        peer.tell(
            "hello",
            version=HANDOVER_VERSION,
            stop_timeout=settings.stop_timeout,
            code=self._sent_code,
            overlaps=settings.overlaps,
            check_timeout=settings.check_timeout,
            start_allowance=settings.start_allowance,
            probation=settings.probation,
            reload_timeout=settings.reload_timeout,
            notify_command=list(settings.notify_command),
            notify_timeout=settings.notify_timeout,
        )

    def _new_peer(self, channel: Channel, token: int, generation: int, stop_timeout: float) -> Peer:
        return Peer(self._loop, channel, token, self, generation=generation, stop_timeout=stop_timeout)

    def _welcome(self, peer: Peer) -> None:
        """Send the successor all it needs, before it exists: this is the first message in the channel, ahead of those
        about our workers, and is there even if this process dies before the successor starts."""
        ours = os.pidfd_open(os.getpid())
        draining, fds_of_draining = self.draining.passed_fds()
        send_welcome(
            peer,
            {"predecessor": ours, "token": peer.token, **self._passed_fds(), **fds_of_draining},
            generation=peer.generation,
            predecessor_generation=self.generation,
            pid=os.getpid(),
            stop_timeout=self._settings.stop_timeout,
            pid_file=self._started.pid_file.name,
            overlaps=self._settings.overlaps,
            barrier_timeout=self._settings.barrier_timeout,
            listeners=self._started.listening.for_successor(),
            draining=draining,
            pool={"configured": self._configured_workers, "workers": self._pool.size},
        )
        peer.tell_workers(self._pool.pidfds(), self._pool.holders())
        os.close(ours)

    def _passed_fds(self) -> dict[str, int]:
        """The descriptors that a successor gets besides the channel, by name."""
        fds = {"lock": self._lock.path_fd()}
        if self._control is not None:
            fds["control"] = self._control.fileno()
        if self._started.init is not None:
            fds["init"] = self._started.init.fileno()
        return fds | self._started.listening.passed_fds()

    # ------------------------------------------------------------------------------------------ what the peer says

    def peer_says(self, event: Event) -> None:
        """See PeerOwner."""
        if event is Event.PEER_ASKS_YIELD and self.overlaps:
            event = Event.PEER_ASKS_LOCK
        self._owner.happen(event)

    def _refuse_beside_draining(self, peer: Peer) -> None:
        """Refuse exclusive new code while older generations drain: it must not serve beside other workers."""
        at_work = self.draining.at_work()
        if at_work and not self.overlaps:
            peer.reason = f"The new code is exclusive, and {at_work} still drains; reload again when it has left."
            self.kill_peer()

    def _bound_by_successor(self, peer: Peer, reload_timeout: float) -> None:
        """Apply the successor's reload_timeout to this reload; at the deadline the successor gives up by itself."""
        changed, peer.reload_timeout = reload_timeout != peer.reload_timeout, reload_timeout
        left = reload_timeout + self._patience
        self._owner.bind_deadline(left)
        why = f"generation {peer.generation} has {reload_timeout:g} s to get ready (reload_timeout)" if changed else ""
        self.reloads.bound(why, at_most=left + self._patience)

    def draining_gone(self) -> None:
        """See DrainingOwner."""
        if self._verdict_due and self.generation - 1 not in self.draining:
            self._verdict_due = False  # it died between its commit and the verdict: we report the verdict
            self._owner.reload_ended(CatalogEntry.RELOADED, {}, None)
        self._owner.reconsider()

    def stop_asked(self) -> None:
        """See DrainingOwner."""
        self._owner.happen(Event.STOP_ASKED)

    def lock_may_be_free(self) -> None:
        """See PeerOwner."""
        self._owner.lock_may_be_free()

    def peer_leaves_caller(self, connection: int) -> None:
        """See PeerOwner."""
        if self._control is not None:
            self._control.adopt(connection)
        else:
            os.close(connection)

    def peer_tells(self, message: Message) -> None:
        """See PeerOwner. The peer is a predecessor, a successor, or a draining generation."""
        if self.peer is not None and message.kind in _OF_SUCCESSOR:
            self._hear_successor(self.peer, message)
            return
        fields = message.fields
        match message.kind:
            case "lane":
                self._owner.lane_is_needed()
            case "naming":
                self._owner.main_pid_is_named()
            case "reloaded":
                self.reloads.note_predecessors(fields["facts"])
                self._verdict_due = False
                self._owner.reload_ended(CatalogEntry.RELOADED, fields["facts"] or {}, None)
            case "counters":
                self._counters.inherit(fields["counts"])
            case kind:
                _log.debug("Another generation sent %r, which this version does not know; ignoring it", kind)

    def _hear_successor(self, peer: Peer, message: Message) -> None:
        fields, reload = message.fields, self.reloads.running
        match message.kind:
            case "starts" if reload is not None:
                peer.note_notify_setting(message)
                if fields["place"]:
                    reload.note(f"generation {peer.generation} starts in {fields['place']}")
                if fields.get("reload_timeout", 0.0) > peer.reload_timeout:  # a shorter one counts later
                    self._bound_by_successor(peer, fields["reload_timeout"])
            case "hello" if not peer.listens:
                self._hear_hello(peer, message)
            case "code" if peer.code != fields["code"]:
                peer.code = fields["code"]
                self.reloads.note(f"generation {peer.generation} is {peer.code}")
            case "warm":
                peer.ready = fields["ready"]
                if reload is not None:
                    reload.count(peer.ready, fields["workers"])
            case "extends":
                self._owner.put_off_deadline(fields["seconds"])
            case "reason" if reload is not None:
                self._owner.let_successor_leave(peer.stop_timeout + self._patience)
                self._words.look(peer, reload, fields.get("silent"))

    def _hear_hello(self, peer: Peer, message: Message) -> None:
        fields = message.fields
        peer.listens = True
        peer.note_notify_setting(message)
        peer.code = fields["code"]
        peer.overlaps = fields.get("overlaps", False)
        peer.stop_timeout = fields["stop_timeout"]
        peer.check_timeout = fields.get("check_timeout", 0.0)
        peer.start_allowance = fields.get("start_allowance", 0.0)
        peer.probation = fields.get("probation", 0.0)
        self.reloads.note(f"generation {peer.generation} is {peer.code}")
        self._bound_by_successor(peer, fields.get("reload_timeout", peer.reload_timeout))
        self._refuse_beside_draining(peer)

    def peer_opened(self, message: Message) -> None:
        """See PeerOwner."""
        if self.reloads.running is None:
            message.close_fds()
            return
        fields = message.fields
        self._started.listening.note_successor(fields["files"], fields.get("lanes", ()), message.fds)

    def peer_hung_up(self) -> None:
        """See PeerOwner."""
        # A dying process closes its files before its pidfd reports the death, so wait a while for that.
        self._loop.call_later(self._patience, self._check_hung_up_peer)

    def _check_hung_up_peer(self) -> None:
        if self.peer is not None and not self.peer.gone:
            self._owner.peer_wants_no_successor()
