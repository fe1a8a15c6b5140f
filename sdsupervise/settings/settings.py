"""Every setting, declared once: its name, type, kind and default; and the frozen set of them that a supervisor uses.

The kind of a setting holds its meaning, unit and limits, and whether it is only for classes or for commands. The
options of `sdsupervise run` and their --help, the keys of an instance's file, the manual pages and the completions
follow from it. Only the class of a service's author repeats the name: SupervisedDaemon, in service/daemon.py, declares
the type that a class may write there.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from ..errors import ConfigError
from . import kinds, listen
from .addresses import NEXT, has_room_for_next
from .kinds import Kind
from .listen import Listen

MOST_WORKERS = 10_000  # the fewest are 1
STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGPWR")
RELOAD_SIGNALS = ("none", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT")
RESTARTS = ("always", "on-failure", "on-abnormal")
QUIET_SIGNALS = ("none", "SIGTSTP", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGINT", "SIGQUIT", "SIGCONT")
EACH_IN_EXCLUSIVE = (
    "before_commit_each is for handover overlap; in an exclusive service, all new workers have clients already, and "
    "none can be held back while another is checked."
)


class Settings(NamedTuple):
    """The settings of one supervisor, see sdsupervise.toml(5). All times are in seconds.

    Each type is annotated with the setting's kind. KINDS maps the names to the kinds.
    """

    listen: Annotated[
        tuple[Listen, ...],
        kinds.sockets(
            "a socket that the supervisor keeps open: port, 127.0.0.1:8000, [::1]:8000, /path or @abstract, with "
            "options: ,backlog=N,mode=0660,user=U,group=G,reuse-port",
            example={
                "http": "127.0.0.1:8000",
                "admin": {"address": "/run/myapp/admin.sock", "mode": "0660", "group": "adm"},
            },
        ),
    ] = ()
    handover: Annotated[
        str,
        kinds.choice(
            ("exclusive", "overlap"),
            "exclusive: never two generations at once; overlap: the old one serves until the new one does",
        ),
    ] = "exclusive"
    workers: Annotated[
        int | str,
        kinds.count(
            MOST_WORKERS, "the number of worker processes; auto: one for each CPU that the affinity and quota allow"
        ),
    ] = 1
    max_workers: Annotated[
        int,
        kinds.whole(
            0,
            MOST_WORKERS,
            "the most workers that scaling allows; 0: in exclusive as many as workers, in overlap no limit",
        ),
    ] = 0
    delay_before_respawn: Annotated[
        float,
        kinds.seconds(
            0, "the wait after the exit of a worker until the next one starts; 0: no wait, a spare is kept ready"
        ),
    ] = 5.0
    respawn_backoff_limit: Annotated[
        float,
        kinds.seconds(0, "the wait doubles with each crash in a row, up to this limit; 0: it does not double"),
    ] = 30.0
    respawn_forgiven_after: Annotated[
        float,
        kinds.seconds(0, "after this many seconds alive, a worker's earlier crashes are forgotten"),
    ] = 60.0
    crash_limit: Annotated[
        int,
        kinds.whole(0, 10_000, "the supervisor gives up after this many crashes within crash_window; 0: never"),
    ] = 0
    crash_window: Annotated[float, kinds.seconds(0, "the time in which crash_limit counts crashes")] = 60.0
    restart: Annotated[
        str,
        kinds.choice(
            *(
                RESTARTS,
                "after which ends a command starts again, as with systemd's Restart=; on-failure: not after exit "
                "status 0, SIGHUP, SIGINT, SIGTERM and SIGPIPE; on-abnormal: nor after any other exit status. If it "
                "does not start again, the service ends",
            ),
            only_for="command",
        ),
    ] = "always"
    restart_prevent: Annotated[
        tuple[int, ...],
        kinds.statuses(
            "the exit statuses after which a command does not start again, and the service ends",
            only_for="command",
            example=[3],
        ),
    ] = ()
    start_timeout: Annotated[
        float,
        kinds.seconds(0, "a worker that is not ready after this time is killed; 0: no limit"),
    ] = 60.0
    worker_timeout: Annotated[
        float,
        kinds.seconds(0, "a worker that sends no ping for this time is killed; 0: never"),
    ] = 0.0
    stop_timeout: Annotated[
        float,
        kinds.seconds(0, "a worker that still runs this long after SIGTERM gets SIGKILL"),
    ] = 30.0
    stop_signal: Annotated[
        str,
        kinds.choice(STOP_SIGNALS, "the signal that stops a command", only_for="command"),
    ] = "SIGTERM"
    quiet_signal: Annotated[
        str,
        kinds.choice(
            *(
                QUIET_SIGNALS,
                "the first process of a command that is to stop gets this signal first, and begins no new work; "
                "stop_signal follows after quiet_timeout",
            ),
            only_for="command",
        ),
    ] = "none"
    quiet_timeout: Annotated[
        float,
        kinds.seconds(
            0, "the time from quiet_signal to stop_signal, for a command that does not end before", only_for="command"
        ),
    ] = 10.0
    reload_signal: Annotated[
        str,
        kinds.choice(
            *(
                RELOAD_SIGNALS,
                "a reload only sends this signal to the first process of a command, which then reads its configuration "
                "again: no new generation starts, and the reload has failed if the process ends",
            ),
            only_for="command",
        ),
    ] = "none"
    kill_mode: Annotated[
        str,
        kinds.choice(
            *(
                ("mixed", "group"),
                "mixed: stop_signal goes only to the first process of a command; group: to its whole process group",
            ),
            only_for="command",
        ),
    ] = "mixed"
    ready_after: Annotated[
        float,
        kinds.seconds(
            0, "a command is ready after it has lived this long; 0: when it sends READY=1", only_for="command"
        ),
    ] = 0.0
    waits_for_release: Annotated[
        bool,
        kinds.flag(
            "an exclusive command starts beside the old one, and calls 'sdsupervise ready' to wait for its end",
            only_for="command",
        ),
    ] = False
    max_lifetime: Annotated[
        float,
        kinds.seconds(0, "a worker is replaced after this time, or up to a tenth sooner; 0: never"),
    ] = 0.0
    max_memory: Annotated[
        int,
        kinds.size("a worker with more private memory than this is replaced; 0: never"),
    ] = 0
    reload_timeout: Annotated[
        float,
        kinds.seconds(0.1, "new code that is not ready after this time is killed, and the old code keeps serving"),
    ] = 60.0
    takeover_timeout: Annotated[
        float,
        kinds.seconds(0.1, "the time for each step between predecessor and successor, beyond stop_timeout"),
    ] = 5.0
    before_commit: Annotated[
        tuple[str, ...],
        kinds.command(
            "a check that reaches only the new workers, see BEFORE_COMMIT in sdsupervise.toml(5); if it fails, the "
            "old workers keep serving, and its last line is the reason",
            example=["curl", "-fsS", "--local-port", "61000-61999", "http://127.0.0.1:8000/health"],
        ),
    ] = ()
    before_commit_timeout: Annotated[
        float,
        kinds.seconds(0.1, "the time limit for all runs of before_commit together"),
    ] = 30.0
    before_commit_each: Annotated[
        bool,
        kinds.flag("run before_commit once for each new worker, while only that worker answers"),
    ] = False
    probation: Annotated[
        float,
        kinds.seconds(0, "how long the new code must serve without failure before the old supervisor leaves"),
    ] = 0.0
    barrier_timeout: Annotated[
        float,
        kinds.seconds(0.1, "the time limit for systemd to process the new main pid"),
    ] = 15.0
    notify_command: Annotated[
        tuple[str, ...],
        kinds.command(
            "a command to run after an event, which $SDSUPERVISE_EVENT names: reloaded, rolled-back, nobody-serves, "
            "crash-loop or gave-up"
        ),
    ] = ()
    notify_timeout: Annotated[
        float,
        kinds.seconds(0.1, "a notify_command that takes longer than this is killed"),
    ] = 30.0

    @property
    def check_timeout(self) -> float:
        """The seconds that before_commit may take; 0 without such a command."""
        return self.before_commit_timeout if self.before_commit else 0.0

    @property
    def checked_beside(self) -> bool:
        """Whether before_commit runs while the old workers serve."""
        return self.overlaps and bool(self.before_commit)

    @property
    def start_allowance(self) -> float:
        """The seconds that workers may take from their release until they serve."""
        return 0.0  # they are warm by then; but see CommandSettings

    @property
    def worker_start_allowance(self) -> float:
        """The seconds that a worker may take from its start until it serves."""
        return max(self.start_timeout or self.reload_timeout, self.ready_after)

    @property
    def executes(self) -> bool:
        """Whether a worker executes a program from disk. If not, it is a fork of the supervisor, which has its code in
        memory."""
        return False

    @property
    def overlaps(self) -> bool:
        """Whether the old workers keep serving in a reload until the new workers serve."""
        return self.handover == "overlap"


class CommandSettings(Settings):
    """The settings of a command, whose process runs no code of ours."""

    __slots__ = ()

    @property
    def start_allowance(self) -> float:
        """The seconds that workers may take from their release until they serve.

        An exclusive command starts only at its release, unless it waits for that (`waits_for_release`).
        """
        if self.overlaps or self.waits_for_release:
            return 0.0
        return self.worker_start_allowance

    @property
    def executes(self) -> bool:
        """Whether a worker executes a program from disk: a command always does."""
        return True


KINDS: Mapping[str, Kind] = {name: declared.__metadata__[0] for name, declared in Settings.__annotations__.items()}
ONLY_FOR_COMMANDS = frozenset(name for name, kind in KINDS.items() if kind.only_for == "command")
OF_CLASSES = tuple(name for name in KINDS if name not in ONLY_FOR_COMMANDS)


def check_settings(owner: str, values: Mapping[str, object]) -> Settings:
    """Return the settings with these values and the defaults of the others. `owner` names their place, for messages.

    Raises ConfigError for the first value with a wrong type or out of range, and for values that contradict each other.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        kind = KINDS.get(name)
        if kind is None:
            raise ConfigError(f"{owner} has a setting {name!r}, which does not exist.")
        try:
            checked[name] = kind.check(value)
        except ConfigError as error:  # its text is a sentence already
            raise ConfigError(f"{owner}: {error}") from None
        except ValueError:
            raise ConfigError(f"{owner}: {name} is {value!r}; it must be {kind.wanted} ({kind.meaning}).") from None
    settings = Settings(**checked)
    if too_late := why_never_ready(settings._asdict()):
        raise ConfigError(f"{owner}: {too_late}")
    if settings.quiet_signal != "none" and settings.quiet_timeout >= settings.stop_timeout:
        raise ConfigError(
            f"{owner}: quiet_timeout is {settings.quiet_timeout:g} s, but stop_timeout ends a command "
            f"{settings.stop_timeout:g} s after quiet_signal; raise stop_timeout."
        )
    if not settings.overlaps and any(entry.lanes for entry in settings.listen):
        raise ConfigError(
            f"{owner}: listen has lanes, which are for handover overlap; in an exclusive service, clients wait in "
            f"the listener's queue for the new worker."
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


def settings_of(service: object) -> Settings:
    """Return the settings among the attributes of a service.

    Raises ConfigError.
    """
    return check_settings(type(service).__name__, {name: getattr(service, name) for name in OF_CLASSES})


def too_few(workers: int, max_workers: int) -> str:
    """Return a sentence: max_workers is less than workers."""
    return f"max_workers is {max_workers}, and workers is {workers}; it must be at least that number."


def why_never_ready(values: Mapping[str, Any]) -> str:
    """Return why a command with these settings is killed before it is ready, as a sentence; "" if it is not.

    A setting that is missing from `values` has its default.
    """
    values = {**Settings._field_defaults, **values}
    for name in ("start_timeout", "reload_timeout"):
        if 0 < values[name] < values["ready_after"]:
            return (
                f"ready_after is {values['ready_after']:g} s, but {name} ends a command that is not ready within "
                f"{values[name]:g} s; raise it."
            )
    return ""


def why_not_checked(entries: Sequence[Listen]) -> str:
    """Return why before_commit cannot reach only the new code at these addresses while the old code serves; "" if it
    can."""
    for entry in entries:
        if entry.address.startswith("/") and not has_room_for_next(entry.address):
            return (
                f"listen {entry.name!r}: {entry.address} is too long for before_commit: {entry.address}{NEXT}, the "
                "socket of the next generation, has no room; choose a shorter path."
            )
    return listen.why_not_checked(entries)


def in_words(value: object) -> str:
    """Return a setting's value as a user writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"
