"""Every setting, its default, unit and limits; and the frozen set of them a supervisor runs by."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..errors import ConfigError
from . import listen
from .addresses import NEXT, has_room_for_next
from .listen import Listen

MOST_WORKERS = 10_000  # the least are 1
EACH_IN_EXCLUSIVE = (
    "before_commit_each is for handover overlap; in an exclusive service the new workers have clients by then, and "
    "none can be held while another is checked."
)


class Settings(NamedTuple):
    """All times are seconds. See KINDS for what each may be, and means."""

    listen: tuple[Listen, ...] = ()
    handover: str = "exclusive"
    workers: int | str = 1  # a number, or "auto"
    max_workers: int = 0  # 0: in exclusive as many as are configured, in overlap as many as there can be
    delay_before_respawn: float = 5.0
    respawn_backoff_limit: float = 30.0
    respawn_forgiven_after: float = 60.0
    crash_limit: int = 0
    crash_window: float = 60.0
    start_timeout: float = 60.0
    worker_timeout: float = 0.0
    stop_timeout: float = 30.0
    stop_signal: str = "SIGTERM"
    kill_mode: str = "mixed"
    ready_after: float = 0.0
    waits_for_release: bool = False
    max_lifetime: float = 0.0
    max_memory: int = 0  # bytes
    reload_timeout: float = 60.0
    takeover_timeout: float = 5.0
    before_commit: tuple[str, ...] = ()
    before_commit_timeout: float = 30.0
    before_commit_each: bool = False
    probation: float = 0.0
    barrier_timeout: float = 15.0
    notify_command: tuple[str, ...] = ()
    notify_timeout: float = 30.0

    @property
    def check_timeout(self) -> float:
        """Seconds that before_commit may take; 0 where there is none."""
        return self.before_commit_timeout if self.before_commit else 0.0

    @property
    def checked_beside(self) -> bool:
        """before_commit runs while the old workers serve."""
        return self.overlaps and bool(self.before_commit)

    @property
    def start_allowance(self) -> float:
        """Seconds that workers may take from their release until they serve."""
        return 0.0  # they are warm by then; but see CommandSettings

    @property
    def worker_start_allowance(self) -> float:
        """Seconds that a worker may take from its start until it serves."""
        return max(self.start_timeout or self.reload_timeout, self.ready_after)

    @property
    def executes(self) -> bool:
        """Workers are executed from disk, instead of being forks of the supervisor that has their code in memory."""
        return False

    @property
    def overlaps(self) -> bool:
        """In a reload the old workers serve until the new ones are known to."""
        return self.handover == "overlap"


class CommandSettings(Settings):
    """The settings of a command, in which no code of ours runs."""

    __slots__ = ()

    @property
    def start_allowance(self) -> float:
        """As Settings; an exclusive command is not even executed before its release, if it does not wait for that."""
        if self.overlaps or self.waits_for_release:
            return 0.0
        return self.worker_start_allowance

    @property
    def executes(self) -> bool:
        """As Settings."""
        return True


class Kind(Protocol):
    """What a setting may be, and means."""

    @property
    def meaning(self) -> str:
        """What it means, in a few words."""

    @property
    def wanted(self) -> str:
        """What it must be, in words: "it must be ..."."""

    @property
    def metavar(self) -> str:
        """What stands for its value in a usage statement."""

    def check(self, value: Any) -> Any:  # noqa: ANN401 (whatever stands in a class or a file)
        """The value as Settings has it; raises ValueError for one of a wrong type or out of range."""

    def read(self, text: str) -> Any:  # noqa: ANN401
        """The value that a command line's text means, not checked yet; raises ValueError."""


class Number(NamedTuple):
    """A number of seconds, or a whole number, with both ends of its range."""

    low: float
    high: float
    meaning: str
    whole: bool = False

    @property
    def wanted(self) -> str:
        """As Kind."""
        kind = "a whole number" if self.whole else "a number of seconds"
        return f"{kind} from {self.low:g} to {self.high:.8g}"

    @property
    def metavar(self) -> str:
        """As Kind."""
        return "N" if self.whole else "SECONDS"

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind."""
        right_type = isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool)
        if not right_type or not self.low <= value <= self.high:
            raise ValueError(self.wanted)
        return value

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind."""
        return int(text) if self.whole else float(text)


class Choice(NamedTuple):
    """One of a few words."""

    words: tuple[str, ...]
    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return " or ".join(map(repr, self.words))

    @property
    def metavar(self) -> str:
        """As Kind."""
        return "|".join(self.words)

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind."""
        if value not in self.words:
            raise ValueError(self.wanted)
        return value

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind."""
        return text


class Flag(NamedTuple):
    """Yes or no; on a command line it is there or not."""

    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return "true or false"

    @property
    def metavar(self) -> str:
        """As Kind."""
        return ""

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind."""
        if not isinstance(value, bool):
            raise ValueError(self.wanted)
        return value

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind."""
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError(self.wanted)
        return words[text.lower()]


class Count(NamedTuple):
    """A whole number, or "auto"."""

    high: int
    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return f"'auto' or a whole number from 1 to {self.high}"

    @property
    def metavar(self) -> str:
        """As Kind."""
        return "N|auto"

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind."""
        if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= self.high):
            raise ValueError(self.wanted)
        return value

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind."""
        return text if text == "auto" else int(text)


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Size(NamedTuple):
    """Bytes, as a number or as systemd writes them: "512M"."""

    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return "a number of bytes, such as 536870912 or '512M'"

    @property
    def metavar(self) -> str:
        """As Kind."""
        return "BYTES"

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind."""
        if isinstance(value, str):
            value = self.read(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise ValueError(self.wanted)
        return value

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind."""
        digits = text.rstrip("KMGT")
        unit = text[len(digits) :]
        if not (digits.isascii() and digits.isdigit()) or unit not in _UNITS:
            raise ValueError(self.wanted)
        return int(digits) * _UNITS[unit]


class Command(NamedTuple):
    """A command with its arguments, as a list; an empty one is none."""

    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return "a list of words, a command and its arguments"

    @property
    def metavar(self) -> str:
        """As Kind."""
        return "COMMAND"

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind."""
        words = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not words or not all(isinstance(word, str) and "\0" not in word for word in value):
            raise ValueError(self.wanted)
        if value and not value[0]:
            raise ValueError(self.wanted)
        return tuple(value)

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind: split as a shell would."""
        import shlex

        return shlex.split(text)


class Sockets(NamedTuple):
    """Names and addresses; see settings/listen.py, whose sentences say what is wrong with one."""

    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return "a mapping of names to addresses"

    @property
    def metavar(self) -> str:
        """As Kind."""
        return "NAME=ADDRESS"

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind, but raises ConfigError with a sentence of its own."""
        return listen.check(value)

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind: a mapping with one name."""
        return listen.read(text)


STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGPWR")
_YEAR = 366 * 86400.0


def _seconds(low: float, meaning: str) -> Number:
    return Number(low, _YEAR, meaning)


KINDS: Mapping[str, Kind] = {
    "listen": Sockets(
        "a socket the service keeps: port, 127.0.0.1:8000, [::1]:8000, /path or @abstract; after it, if need be, "
        ",backlog=N,mode=0660,user=U,group=G,reuse-port"
    ),
    "handover": Choice(("exclusive", "overlap"), "may the old workers serve on until the new ones do, or never two"),
    "workers": Count(MOST_WORKERS, "so many processes; auto: one for each CPU that the affinity and quota allow"),
    "max_workers": Number(
        *(0, MOST_WORKERS, "scaling stops here; 0: at workers in exclusive, nowhere in overlap"),
        whole=True,
    ),
    "delay_before_respawn": _seconds(0, "wait between a worker's exit and the next one; 0: a spare is kept forked"),
    "respawn_backoff_limit": _seconds(0, "the wait doubles with each crash in a row, up to this; 0: it does not"),
    "respawn_forgiven_after": _seconds(0, "a worker that lived so long has paid for the crashes before it"),
    "crash_limit": Number(0, 10_000, "give up after so many crashes within crash_window; 0: never", whole=True),
    "crash_window": _seconds(0, "see crash_limit"),
    "start_timeout": _seconds(0, "a worker not ready after this is killed; 0: no limit"),
    "worker_timeout": _seconds(0, "a worker silent for so long since its last ping is killed; 0: never"),
    "stop_timeout": _seconds(0, "a worker still there so long after SIGTERM gets SIGKILL"),
    "stop_signal": Choice(STOP_SIGNALS, "what a command is told to stop by"),
    "kill_mode": Choice(("mixed", "group"), "stop_signal goes to a command's first process alone, or to all its group"),
    "ready_after": _seconds(0, "a command is ready when it has lived so long; 0: when it has sent READY=1"),
    "waits_for_release": Flag("an exclusive command starts beside the old one, and calls 'sdsupervise ready' in time"),
    "max_lifetime": _seconds(0, "a worker is replaced after this, or up to a tenth sooner; 0: never"),
    "max_memory": Size("a worker with more private memory than this is replaced; 0: never"),
    "reload_timeout": _seconds(0.1, "new code not ready after this is killed, the old code serves on"),
    "takeover_timeout": _seconds(0.1, "grace for the other supervisor, beyond its own stop_timeout"),
    "before_commit": Command(
        "a check that reaches the new workers alone, see BEFORE_COMMIT in sdsupervise.toml(5); if it fails, the old "
        "ones go on, and its last words are the reason"
    ),
    "before_commit_timeout": _seconds(0.1, "how long before_commit may take, all its runs together"),
    "before_commit_each": Flag("run before_commit once for each new worker, which then is the only one to answer"),
    "probation": _seconds(0, "how long new code must serve well before the old supervisor leaves"),
    "barrier_timeout": _seconds(0.1, "how long systemd may take to process the new main pid"),
    "notify_command": Command(
        "told of what people want to hear: reloaded, rolled-back, nobody-serves, crash-loop, gave-up; in "
        "$SDSUPERVISE_EVENT"
    ),
    "notify_timeout": _seconds(0.1, "a notify_command that takes longer is killed"),
}

# What means nothing to a class, which runs in a worker of ours.
ONLY_FOR_COMMANDS = frozenset({"stop_signal", "kill_mode", "ready_after", "waits_for_release"})


def check_settings(owner: str, values: Mapping[str, object]) -> Settings:
    """The settings with these values, the rest at its default; owner names where they stand, for the message.

    Raises ConfigError for the first value of a wrong type or out of range.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        kind = KINDS.get(name)
        if kind is None:
            raise ConfigError(f"{owner} has a setting {name!r}, which does not exist.")
        try:
            checked[name] = kind.check(value)
        except ConfigError as error:  # it has a sentence of its own
            raise ConfigError(f"{owner}: {error}") from None
        except ValueError:
            raise ConfigError(f"{owner}: {name} is {value!r}; it must be {kind.wanted} ({kind.meaning}).") from None
    settings = Settings(**checked)
    if too_late := why_never_ready(settings._asdict()):
        raise ConfigError(f"{owner}: {too_late}")
    if not settings.overlaps and any(entry.lanes for entry in settings.listen):
        raise ConfigError(
            f"{owner}: listen has lanes, which are for handover overlap; in an exclusive service clients wait for the "
            "new worker in the queue of the old one."
        )
    if isinstance(settings.workers, int) and 0 < settings.max_workers < settings.workers:
        raise ConfigError(f"{owner}: {too_few(settings.workers, settings.max_workers)}")
    if settings.before_commit_each and not settings.overlaps:
        raise ConfigError(f"{owner}: {EACH_IN_EXCLUSIVE}")
    why_not = why_not_checked(settings.listen) if settings.checked_beside else ""
    if why_not:
        raise ConfigError(f"{owner}: {why_not}")
    if settings.checked_beside or any(entry.lanes for entry in settings.listen):
        settings = settings._replace(listen=listen.check_number(listen.with_lanes(settings.listen)))
    return settings


def too_few(workers: int, max_workers: int) -> str:
    """A sentence: the two contradict each other."""
    return f"max_workers is {max_workers}, and workers is {workers}; it must be at least as many."


def why_never_ready(values: Mapping[str, Any]) -> str:
    """Why a command with these settings, the rest at its default, is ended before it is ready: a sentence, or ""."""
    values = {**Settings._field_defaults, **values}
    for name in ("start_timeout", "reload_timeout"):
        if 0 < values[name] < values["ready_after"]:
            return (
                f"ready_after is {values['ready_after']:g} s, and {name} ends a command that is not ready within "
                f"{values[name]:g} s; raise it."
            )
    return ""


def why_not_checked(entries: Sequence[Listen]) -> str:
    """Why before_commit cannot reach the new code alone at these addresses, while the old code serves; "" if it can."""
    for entry in entries:
        if entry.address.startswith("/") and not has_room_for_next(entry.address):
            return (
                f"listen {entry.name!r}: {entry.address} is too long for before_commit: {entry.address}{NEXT}, the "
                "socket of the next generation, has no room; choose a shorter path."
            )
    return listen.why_not_checked(entries)


def in_words(value: object) -> str:
    """A setting's value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
