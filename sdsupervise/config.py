"""Every setting, its default, unit and limits; and the frozen set of them a supervisor runs by."""

from collections.abc import Mapping
from typing import NamedTuple

from .errors import ConfigError


class Settings(NamedTuple):
    """All times are seconds. See LIMITS for ranges and meaning."""

    delay_before_respawn: float = 5.0
    respawn_backoff_limit: float = 30.0
    respawn_forgiven_after: float = 60.0
    crash_limit: int = 0
    crash_window: float = 60.0
    start_timeout: float = 60.0
    worker_timeout: float = 0.0
    stop_timeout: float = 30.0
    reload_timeout: float = 60.0
    takeover_timeout: float = 5.0
    probation: float = 0.0
    barrier_timeout: float = 15.0


class Limit(NamedTuple):
    """The range of a setting (both ends included) and what it means."""

    low: float
    high: float
    meaning: str


_YEAR = 366 * 86400.0

LIMITS: Mapping[str, Limit] = {
    "delay_before_respawn": Limit(0, _YEAR, "wait between a worker's exit and the next one; 0: a spare is kept forked"),
    "respawn_backoff_limit": Limit(0, _YEAR, "the wait doubles with each crash in a row, up to this; 0: it does not"),
    "respawn_forgiven_after": Limit(0, _YEAR, "a worker that lived so long has paid for the crashes before it"),
    "crash_limit": Limit(0, 10_000, "give up after so many crashes within crash_window; 0: never"),
    "crash_window": Limit(0, _YEAR, "see crash_limit"),
    "start_timeout": Limit(0, _YEAR, "a worker not ready after this is killed; 0: no limit"),
    "worker_timeout": Limit(0, _YEAR, "a worker silent for so long since its last ping is killed; 0: never"),
    "stop_timeout": Limit(0, _YEAR, "a worker still there so long after SIGTERM gets SIGKILL"),
    "reload_timeout": Limit(0.1, _YEAR, "new code not ready after this is killed, the old code serves on"),
    "takeover_timeout": Limit(0.1, _YEAR, "grace for the other supervisor, beyond its own stop_timeout"),
    "probation": Limit(0, _YEAR, "how long new code must serve well before the old supervisor leaves"),
    "barrier_timeout": Limit(0.1, _YEAR, "how long systemd may take to process the new main pid"),
}


def check_settings(owner: str, values: Mapping[str, object]) -> Settings:
    """The settings with these values, the rest at its default; owner names where they stand, for the message.

    Raises ConfigError for the first value of a wrong type or out of range.
    """
    checked: dict[str, float] = {}
    for name, value in values.items():
        limit = LIMITS.get(name)
        if limit is None:
            raise ConfigError(f"{owner} has a setting {name!r}, which does not exist.")
        whole = isinstance(Settings._field_defaults[name], int)
        right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not right_type or not limit.low <= value <= limit.high:  # type: ignore[operator]
            kind = "a whole number" if whole else "a number of seconds"
            raise ConfigError(
                f"{owner}: {name} is {value!r}; it must be {kind} from {limit.low:g} to {limit.high:g} "
                f"({limit.meaning})."
            )
        checked[name] = value  # type: ignore[assignment]
    return Settings(**checked)  # type: ignore[arg-type]
