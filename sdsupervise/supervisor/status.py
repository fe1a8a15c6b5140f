"""What a supervisor reports about itself: the STATUS= sentence, and the answers to Status and Code."""

import json
import os
import time

from .. import __version__
from ..code.code_version import CodeVersion
from ..core.phases import PHASES
from ..core.takeover import State
from ..handover.counters import Counters
from ..handover.handover import Handover
from ..handover.started import Started
from ..input.printable import fit
from ..linux.inheritance import directory_of_code
from ..settings.settings import Settings
from ..workers.pool import Pool
from .scaling import PoolSize
from .status_text import StatusText, state_name

_MOST_SHOWN = 1000  # pids; more do not fit into one answer of the control socket
_MOST_BYTES = 64 * 1024  # of JSON; more does not fit into one answer
_MOST_ARGV_BYTES = 8 * 1024  # of a command line in one answer


def _working_directory() -> str:
    """The working directory without symlinks; "" if it was removed, as a deployment may do with an old release."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _fitting(workers: list[dict[str, object]]) -> list[dict[str, object]]:
    """The facts of workers, each STATUS= text cut so that all of them fit into one answer."""
    share = _MOST_BYTES // 2 // max(1, len(workers))
    return [{**facts, "status": fit(str(facts["status"]), share)} if facts["status"] else facts for facts in workers]


class Status:
    """Reads the parts of one supervisor, and changes none."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        pool_size: PoolSize,
        started: Started,
        pool: Pool,
        handover: Handover,
        counters: Counters,
        *,
        can_reload: bool,
    ) -> None:
        self._name, self._settings, self._pool_size, self._started = name, settings, pool_size, started
        self._pool, self._handover, self._can_reload = pool, handover, can_reload
        self._directory = directory_of_code()  # as entered: a symlink in it may change later
        self._since, self._has_served = time.time(), False
        self._counters = counters
        self.gave_up_because = ""  # why the supervisor ends the service; "" if it does not

    def begin_serving(self) -> None:
        """The generation serves from now on. Until the first call, `since` is the start of this generation."""
        if not self._has_served:
            self._since, self._has_served = time.time(), True

    def sentence(self, state: State) -> str:
        """The state as a sentence for STATUS=."""
        return self._text(state).sentence()

    def sentence_of_phase(self, state: State) -> str:
        """The state as a sentence for callers that follow a reload, without what they know already."""
        return self._text(state).sentence_of_phase()

    def _text(self, state: State) -> StatusText:
        peer, generation = self._handover.peer, self._handover.generation
        return StatusText(
            state=state,
            generation=generation,
            peer_generation=peer.generation if peer is not None else generation - 1,
            code=str(self._started.code_version),
            peer_code=peer.code if peer is not None else "",
            serving=self._pool.serving,
            workers=self._pool.size,
            trouble=self._pool.trouble,
            last_reload=self._handover.reloads.remark,
            gave_up_because=self.gave_up_because,
        )

    def facts(self, state: State) -> dict[str, object]:
        """The answer to Status."""
        started, pool, handover = self._started, self._pool, self._handover
        argv = started.invocation.argv
        return {
            "name": self._name,
            "version": __version__,
            "state": state_name(state, pool.serving),
            "status": self.sentence(state),
            "serves": pool.serving > 0 or PHASES[state].serves == "peer",
            "healthy": state is State.SERVING and pool.serving >= pool.size,
            "generation": handover.generation,
            "since": round(self._since, 3),
            "pid": os.getpid(),
            "handover": self._settings.handover,
            "code": {"path": started.code_version.path, "fingerprint": started.code_version.fingerprint},
            "argv": argv if len(json.dumps(argv)) < _MOST_ARGV_BYTES else [],
            "directory": self._directory,
            "credentials_directory": started.invocation.environment.get("CREDENTIALS_DIRECTORY"),
            "pid_file": started.pid_file.name,
            "can_reload": self._can_reload,
            "sockets": started.listening.facts(),
            "crashes": pool.crashes,
            "pool": {
                "workers": pool.size,
                "serving": pool.serving,
                "max_workers": self._pool_size.most,
                "automatic": self._pool_size.automatic,
            },
            "workers": _fitting(pool.facts()),
            "spare": pool.spare.pid if pool.spare is not None else None,
            "successor": self._successor(),
            "draining": handover.draining.facts(),
            "last_reload": handover.reloads.facts(),
            "counters": self._counters.facts(),
        }

    def code(self) -> dict[str, object]:
        """The answer to Code: everything that is needed to compare the running code with the disk."""
        code_version, argv = self._started.code_version, self._started.invocation.argv
        modules, words = code_version.modules, code_version.words
        fits = len(json.dumps([words, argv])) < _MOST_BYTES
        complete = fits and len(json.dumps(modules)) < _MOST_BYTES
        return {
            "path": code_version.path,
            "fingerprint": code_version.fingerprint,
            "modules": [{"name": name, "file": file} for name, file in modules] if complete else [],
            "complete": complete,
            "command": words if fits else [],
            "argv": argv if fits else argv[:1],
            "directory": self._started.invocation.directory,
            "working_directory": _working_directory(),
            "version": __version__,
            "package": os.path.dirname(os.path.dirname(__file__)),
            **self._of_signal(code_version),
        }

    def _of_signal(self, code_version: CodeVersion) -> dict[str, object]:
        """What is needed to find out whether a reload by a signal would apply what is on disk."""
        number = self._settings.reload_signal
        if number == "none":
            return {}
        return {"reload_signal": number, "program": code_version.program, "read_again": code_version.read_again}

    def _successor(self) -> dict[str, object] | None:
        """What is known of the successor during a reload; None if there is no successor."""
        peer = self._handover.peer
        if peer is None or peer.generation <= self._handover.generation or peer.gone:
            return None
        pids = peer.worker_pids[:_MOST_SHOWN]
        return {"generation": peer.generation, "pid": peer.pid, "code": peer.code, "workers": pids, "ready": peer.ready}
