"""What a supervisor says of itself: the sentence for STATUS=, and the facts that `Status` answers."""

import json
import os
import time

from .. import __version__
from ..core.phases import PHASES
from ..core.takeover import State
from ..handover.counters import Counters
from ..handover.handover import Succession
from ..handover.started import Started
from ..input.printable import fit
from ..linux.inheritance import directory_of_code
from ..settings.settings import Settings
from ..workers.pool import Workforce
from .scaling import Pool
from .status_text import Standing, state_name

_MOST_SHOWN = 1000  # pids: more would not fit into an answer of the control socket
_MOST_BYTES = 64 * 1024  # in JSON: nor would more text


def _working_directory() -> str:
    """Without symlinks; "" if it was removed, as a deploy may do with an old release."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _fitting(workers: list[dict[str, object]]) -> list[dict[str, object]]:
    """The facts of workers, with as much of what each says of itself as all of them have room for in one answer."""
    share = _MOST_BYTES // 2 // max(1, len(workers))
    return [{**facts, "status": fit(str(facts["status"]), share)} if facts["status"] else facts for facts in workers]


class Account:
    """Looks at the parts of one supervisor, and changes none."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        pool: Pool,
        started: Started,
        workforce: Workforce,
        succession: Succession,
        counters: Counters,
        *,
        can_reload: bool,
    ) -> None:
        self._name, self._settings, self._pool, self._started = name, settings, pool, started
        self._workforce, self._succession, self._can_reload = workforce, succession, can_reload
        self._directory = directory_of_code()  # as it was entered: the symlink may lead elsewhere later
        self._since, self._has_served = time.time(), False
        self._counters = counters
        self.gave_up_because = ""  # "" if it did not

    def begin_serving(self) -> None:
        """From the first time on; until then `since` says when this generation started."""
        if not self._has_served:
            self._since, self._has_served = time.time(), True

    def sentence(self, state: State) -> str:
        """How it stands, for systemd and people."""
        return self._standing(state).sentence()

    def sentence_of_phase(self, state: State) -> str:
        """How it stands, for those who follow a reload: without what they know."""
        return self._standing(state).sentence_of_phase()

    def _standing(self, state: State) -> Standing:
        peer, generation = self._succession.peer, self._succession.generation
        return Standing(
            state=state,
            generation=generation,
            peer_generation=peer.generation if peer is not None else generation - 1,
            code=str(self._started.receipt),
            peer_code=peer.code if peer is not None else "",
            serving=self._workforce.serving,
            workers=self._workforce.size,
            trouble=self._workforce.trouble,
            last_reload=self._succession.remark,
            gave_up_because=self.gave_up_because,
        )

    def facts(self, state: State) -> dict[str, object]:
        """What Status answers."""
        started, workforce, succession = self._started, self._workforce, self._succession
        return {
            "name": self._name,
            "version": __version__,
            "state": state_name(state, workforce.serving),
            "status": self.sentence(state),
            "serves": workforce.serving > 0 or PHASES[state].serves == "peer",
            "healthy": state is State.SERVING and workforce.serving >= workforce.size,
            "generation": succession.generation,
            "since": round(self._since, 3),
            "pid": os.getpid(),
            "handover": self._settings.handover,
            "code": {"path": started.receipt.path, "fingerprint": started.receipt.fingerprint},
            "directory": self._directory,
            "credentials_directory": started.invocation.environment.get("CREDENTIALS_DIRECTORY"),
            "pid_file": started.pid_file.name,
            "can_reload": self._can_reload,
            "sockets": started.listening.facts(),
            "crashes": workforce.crashes,
            "pool": {
                "workers": workforce.size,
                "serving": workforce.serving,
                "max_workers": self._pool.most,
                "automatic": self._pool.automatic,
            },
            "workers": _fitting(workforce.facts()),
            "spare": workforce.spare.pid if workforce.spare is not None else None,
            "successor": self._successor(),
            "draining": succession.elders.facts(),
            "last_reload": succession.facts(),
            "counters": self._counters.facts(),
        }

    def code(self) -> dict[str, object]:
        """What Code answers: all that is needed to see whether the disk has other code by now."""
        receipt, argv = self._started.receipt, self._started.invocation.argv
        modules, words = receipt.modules, receipt.words
        fits = len(json.dumps([words, argv])) < _MOST_BYTES
        complete = fits and len(json.dumps(modules)) < _MOST_BYTES
        return {
            "path": receipt.path,
            "fingerprint": receipt.fingerprint,
            "modules": [{"name": name, "file": file} for name, file in modules] if complete else [],
            "complete": complete,
            "command": words if fits else [],
            "argv": argv if fits else argv[:1],
            "directory": self._started.invocation.directory,
            "working_directory": _working_directory(),
            "version": __version__,
            "package": os.path.dirname(os.path.dirname(__file__)),
        }

    def _successor(self) -> dict[str, object] | None:
        """The generation that a reload raises, as far as we know of it."""
        peer = self._succession.peer
        if peer is None or peer.generation <= self._succession.generation or peer.gone:
            return None
        pids = peer.worker_pids[:_MOST_SHOWN]
        return {"generation": peer.generation, "pid": peer.pid, "code": peer.code, "workers": pids, "ready": peer.ready}
