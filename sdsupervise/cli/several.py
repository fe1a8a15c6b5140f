"""Reloading several instances one after the other, or those of them that need it."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping

from ..errors import ExitStatus, NotPermitted, NotRunning, SdsuperviseError, UsageError
from ..input.printable import printable
from . import target
from .ask import Asked, ask_all
from .outdated import why_outdated
from .terminal import Screen, count


def reload(parsed: argparse.Namespace, reload_one: Callable[[str, str], int]) -> int:
    """All that are meant, each by `reload_one(name, path)`; the exit status of the first that fails.

    Raises UsageError.
    """
    if parsed.all and (parsed.names or parsed.pid_file):
        raise UsageError("Name instances, or say --all, not both.")
    named = bool(parsed.names or parsed.pid_file)
    of_all = parsed.all or (parsed.outdated and not named)
    paths = target.all_paths() if of_all else target.paths(parsed, otherwise_all=False)
    failures: dict[str, int] = {}
    meant: dict[str, tuple[str, str]] = {}
    current = []
    for asked in ask_all(paths):
        if of_all and asked.condition in ("stopped", "dead"):
            continue  # it does not run
        why = _why(asked) if parsed.outdated else ""
        if parsed.outdated and not why:
            current.append(asked.name)
            continue
        meant[asked.name] = (asked.path, why)
        if parsed.dry_run and asked.error is not None:
            _complain(str(asked.error))
            failures[asked.name] = getattr(asked.error, "exit_status", ExitStatus.SOFTWARE)
        elif parsed.dry_run:
            because = f": {why}" if why else ""
            print(
                json.dumps({"instance": asked.name, "why": why})
                if parsed.json
                else f"Would reload {asked.name}{because}."
            )
    if not meant and not parsed.json:
        runs = f"{count(len(current), 'instance')} run{'s' * (len(current) == 1)} what is on disk"
        print(f"{runs}: nothing to reload." if current else "No instance runs: nothing to reload.")
    if parsed.dry_run or not meant:
        return next(iter(failures.values()), ExitStatus.OK)
    done: list[str] = []
    for number, (name, (path, why)) in enumerate(meant.items(), 1):
        if not parsed.json:
            because = f": {why}" if why else ""
            print(Screen().paint(f"[{number}/{len(meant)}] {name}{because}", "bold"), flush=True)
        try:
            reload_one(name, path)
            done.append(name)
        except SdsuperviseError as error:
            _complain(f"{error}{target.hint_of(name) if isinstance(error, NotRunning) else ''}")
            failures[name] = error.exit_status
            # Of all that run some are others': they refuse, and are as they were.
            is_others = of_all and isinstance(error, NotPermitted)
            if error.exit_status == ExitStatus.INTERRUPTED or not (parsed.keep_going or is_others):
                break
    if len(meant) > 1 and not parsed.json:
        print(_summary(done, failures, [name for name in meant if name not in done and name not in failures]))
    return next(iter(failures.values()), ExitStatus.OK)


def _why(asked: Asked) -> str:
    """Why it should be reloaded, as a phrase; "" if it is what the disk has."""
    try:
        return "it does not answer" if asked.facts is None else why_outdated(asked.path)
    except SdsuperviseError:
        return "it does not answer, or not to what it runs"  # the reload says more


def _complain(sentence: str) -> None:
    screen = Screen(sys.stderr)
    print(screen.paint(screen.wrap(printable(sentence)), "bad"), file=sys.stderr, flush=True)


def _summary(done: list[str], failures: Mapping[str, int], left: list[str]) -> str:
    parts = [("Reloaded", done), ("not reloaded", list(failures)), ("not tried", left)]
    sentence = "; ".join(f"{what} {len(names)}: {', '.join(names)}" for what, names in parts if names)
    return f"{sentence[:1].upper()}{sentence[1:]}."
