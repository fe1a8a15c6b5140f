"""What a supervisor says of itself: the sentence for STATUS=, and the facts that `Status` answers."""

import os

from . import __version__
from .config import Settings
from .core.takeover import State
from .counters import Counters
from .launch import Started
from .standing import Standing
from .succession import Succession
from .workforce import Workforce


class Account:
    """Looks at the parts of one supervisor, and changes none."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        started: Started,
        workforce: Workforce,
        succession: Succession,
        counters: Counters,
        *,
        can_reload: bool,
    ) -> None:
        self._name, self._settings, self._started = name, settings, started
        self._workforce, self._succession, self._can_reload = workforce, succession, can_reload
        self._counters = counters
        self.gave_up_because = ""  # "" if it did not

    def sentence(self, state: State) -> str:
        """How it stands, for systemd and people."""
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
            failed_reload=self._succession.failure,
            gave_up_because=self.gave_up_because,
        ).sentence()

    def facts(self, state: State) -> dict[str, object]:
        """What Status answers."""
        started, workforce, succession = self._started, self._workforce, self._succession
        return {
            "name": self._name,
            "version": __version__,
            "state": state.name.lower(),
            "status": self.sentence(state),
            "healthy": state is State.SERVING and workforce.serving >= workforce.size,
            "generation": succession.generation,
            "pid": os.getpid(),
            "handover": self._settings.handover,
            "code": {"path": started.receipt.path, "fingerprint": started.receipt.fingerprint},
            "directory": started.invocation.directory,
            "pid_file": started.pid_file.name,
            "can_reload": self._can_reload,
            "sockets": started.listening.facts(),
            "crashes": workforce.crashes,
            "pool": {"workers": workforce.size, "serving": workforce.serving},
            "workers": workforce.facts(),
            "spare": workforce.spare.pid if workforce.spare is not None else None,
            "draining": succession.elders.facts(),
            "last_reload": succession.facts(),
            "counters": self._counters.facts(),
        }
