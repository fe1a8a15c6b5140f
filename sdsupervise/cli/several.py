"""Reloads several instances one after the other: all, named ones, or those that need it."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping

from ..errors import ExitStatus, NotPermitted, ReloadFailed, SdsuperviseError, UsageError
from ..input.printable import printable
from . import target
from .ask import Asked, ask_all
from .outdated import Outdated, why_outdated
from .terminal import Screen, count


class _NeedsRestart(ReloadFailed):
    """A reload of this instance would not apply what has changed."""


class _Selection:
    """The selected instances, and the reason for each."""

    def __init__(self) -> None:
        self.meant: dict[str, tuple[str, str]] = {}  # name to control socket, and the reason or ""
        self.errors: dict[str, Exception] = {}  # by name, of instances without a correct answer, or that need a restart
        self.current: list[str] = []  # instances that run what is on disk


def reload(parsed: argparse.Namespace, reload_one: Callable[[str, str], int]) -> int:
    """Reload the selected instances by `reload_one(name, path)`. Returns the exit status of the first failure.

    Raises UsageError.
    """
    if parsed.all and (parsed.names or parsed.pid_file):
        raise UsageError("Name instances or use --all, not both.")
    of_all = parsed.all or (parsed.outdated and not (parsed.names or parsed.pid_file))
    found = _select(parsed, of_all=of_all)
    if not found.meant and not parsed.json:
        count_of = len(found.current)
        runs = f"{count(count_of, 'instance')} run{'s' * (count_of == 1)} what is on disk"
        print(f"{runs}: nothing to reload." if found.current else "No instance runs: nothing to reload.")
    if parsed.dry_run:
        return _announce(found, as_json=parsed.json)
    done, failures = _reload_each(parsed, found, reload_one, of_all=of_all)
    if len(found.meant) > 1 and not parsed.json:
        left = [name for name in found.meant if name not in done and name not in failures]
        print(_summary(done, failures, left))
    return next(iter(failures.values()), ExitStatus.OK)


def _select(parsed: argparse.Namespace, *, of_all: bool) -> _Selection:
    """The selected instances: all running ones or the named ones; with --outdated, those of them that need it."""
    found = _Selection()
    for asked in ask_all(target.all_paths() if of_all else target.paths(parsed, otherwise_all=False)):
        if of_all and asked.condition in ("stopped", "dead"):
            continue  # not running
        why, number = _why(asked) if parsed.outdated else Outdated("")
        if parsed.outdated and not why:
            found.current.append(asked.name)
            continue
        found.meant[asked.name] = (asked.path, why)
        if asked.error is not None:
            found.errors[asked.name] = asked.error
        elif number:
            found.errors[asked.name] = _NeedsRestart(
                f"{asked.name} needs a restart: {why}. A reload only sends {number}, which does not apply that."
            )
    return found


def _announce(found: _Selection, *, as_json: bool) -> int:
    """Print what would be reloaded. Returns the exit status of the first one that cannot be."""
    for name, (_path, why) in found.meant.items():
        if name in found.errors:
            _complain(str(found.errors[name]))
        elif as_json:
            print(json.dumps({"instance": name, "why": why}))
        else:
            print(f"Would reload {_with_reason(name, why)}.")
    statuses = (getattr(error, "exit_status", ExitStatus.SOFTWARE) for error in found.errors.values())
    return next(statuses, ExitStatus.OK)


def _reload_each(
    parsed: argparse.Namespace,
    found: _Selection,
    reload_one: Callable[[str, str], int],
    *,
    of_all: bool,
) -> tuple[list[str], dict[str, int]]:
    """Reload one after the other, up to the first failure without --keep-going.

    Returns the names of the reloaded ones, and the exit statuses of the failed ones.
    """
    done: list[str] = []
    failures: dict[str, int] = {}
    for number, (name, (path, why)) in enumerate(found.meant.items(), 1):
        if not parsed.json:
            print(Screen().paint(f"[{number}/{len(found.meant)}] {_with_reason(name, why)}", "bold"), flush=True)
        try:
            error = found.errors.get(name)
            if isinstance(error, _NeedsRestart):
                raise error
            reload_one(name, path)
            done.append(name)
        except SdsuperviseError as error:
            _complain(target.explain(error, name))
            failures[name] = error.exit_status
            # With --all, instances of other users refuse, and continue as before. So does one that needs a restart.
            goes_on = isinstance(error, _NeedsRestart) or (of_all and isinstance(error, NotPermitted))
            if error.exit_status == ExitStatus.INTERRUPTED or not (parsed.keep_going or goes_on):
                break
    return done, failures


def _with_reason(name: str, why: str) -> str:
    return f"{name}: {why}" if why else name


def _why(asked: Asked) -> Outdated:
    """Why an instance needs a reload."""
    try:
        return Outdated("it does not answer") if asked.facts is None else why_outdated(asked.path)
    except SdsuperviseError:
        return Outdated("it does not say what code it runs")  # the reload says more


def _complain(sentence: str) -> None:
    screen = Screen(sys.stderr)
    print(screen.paint(screen.wrap(printable(sentence)), "bad"), file=sys.stderr, flush=True)


def _summary(done: list[str], failures: Mapping[str, int], left: list[str]) -> str:
    parts = [("Reloaded", done), ("not reloaded", list(failures)), ("not tried", left)]
    sentence = "; ".join(f"{what} {len(names)}: {', '.join(names)}" for what, names in parts if names)
    return f"{sentence[:1].upper()}{sentence[1:]}."
