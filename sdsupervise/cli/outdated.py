"""Compares a running instance with the disk: directory, code, configuration file, unit, and sdsupervise itself."""

import contextlib
import os
import re
import shlex
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..code.code_version import fingerprint_on_disk, read_version_of_command
from ..control.client import Client
from . import command_line
from .apart import look_as
from .ask import TIMEOUT_SECONDS
from .own_unit import changes_of
from .process_usage import Processes

_MOST_FILES = 200_000  # read below a path that the instance names


class Outdated(NamedTuple):
    """Why an instance does not run what is on disk, as a phrase; "" if it does."""

    why: str
    signal: str = ""  # that a reload sends, and that does not apply this


def why_outdated(path: str) -> Outdated:
    """Why the instance with this control socket needs a reload, or a restart.

    Raises NotRunning, NotPermitted, HandoverError.
    """
    connection = Client.connect(path, timeout_seconds=TIMEOUT_SECONDS)
    try:
        answer, status = connection.ask("Code"), connection.ask("Status")
    finally:
        connection.close()
    for said in (answer, status):
        if said.error:
            return Outdated(f"its sdsupervise does not say what it runs: {said.error}")
    usage = Processes().usage(status.parameters["pid"])
    started = time.time() - usage.age if usage is not None else time.time()
    facts, sender = answer.parameters, answer.sender
    why = look_as(sender, lambda: _why(facts, started)) or (changes_of(sender, path) if sender is not None else "")
    number = facts.get("reload_signal", "")
    if why or not number:
        return Outdated(why, number)
    return Outdated(look_as(sender, lambda: _why_changed(facts, by_signal=True)))


def _why(facts: Mapping[str, Any], started: float) -> str:
    """Why it is outdated; with reload_signal only what no signal applies."""
    return (
        _why_package(facts)
        or _why_moved(facts)
        or _why_changed(facts, by_signal=False)
        or ("" if facts["complete"] else _why_newer(facts["path"], started))
        or _why_configured(facts, started)
    )


def _why_package(facts: Mapping[str, Any]) -> str:
    """A phrase if another version of sdsupervise is at the place that it was loaded from."""
    try:
        with open(os.path.join(facts["package"], "__init__.py")) as file:
            found = re.search(r'^__version__ = "([^"]+)"', file.read(), re.MULTILINE)
    except OSError:
        return f"sdsupervise is not in {facts['package']} any more"
    if found and found[1] != facts["version"]:
        return f"it runs sdsupervise {facts['version']}, and {found[1]} is installed"
    return ""


def _why_moved(facts: Mapping[str, Any]) -> str:
    """A phrase if the name of its directory or script leads to another place now."""
    running, by_name = facts["path"], command_line.directory(facts["argv"], facts["directory"])
    now = os.path.realpath(by_name)
    if not facts["working_directory"]:
        return "it runs in a directory that is gone"
    if by_name and now != facts["working_directory"]:
        return f"{by_name} is {now} now, and it runs in {facts['working_directory']}"
    for script in () if facts["command"] else command_line.scripts(facts["argv"]):
        now = os.path.realpath(os.path.join(by_name, script))
        same_name = os.path.basename(now) == os.path.basename(running)
        if same_name and now != running and os.path.isfile(now):
            return f"{script} is {now} now, and it runs {running}"
    return ""


def _why_changed(facts: Mapping[str, Any], *, by_signal: bool) -> str:
    """A phrase if its code has changed in place.

    With reload_signal it is about what the command executes, or, with `by_signal`, about what the signal has it read.
    """
    if facts["command"]:
        executable, *words = facts["command"]
        try:
            with contextlib.chdir(facts["working_directory"]):
                now = read_version_of_command(executable, words)
        except OSError:
            return f"{facts['working_directory']} is gone"
        if by_signal:
            changed = now.fingerprint not in (facts["fingerprint"], facts.get("read_again"))
        elif facts.get("reload_signal"):
            changed = (now.path, now.program) != (facts["path"], facts.get("program"))
        else:
            changed = (now.path, now.fingerprint) != (facts["path"], facts["fingerprint"])
        return f"{shlex.join(words)} has changed on disk" if changed else ""
    if facts["modules"]:
        modules = [(module["name"], module["file"]) for module in facts["modules"]]
        if fingerprint_on_disk(modules) != facts["fingerprint"]:
            return f"{facts['path']} has changed on disk"
    return ""


def _why_newer(path: str, started: float) -> str:
    """A phrase if one of its files is newer than the process; for instances with too many modules to list."""
    left = _MOST_FILES
    for directory, _, names in os.walk(path if os.path.isdir(path) else os.path.dirname(path)):
        for name in names:
            file = os.path.join(directory, name)
            if name.endswith(".py") and _written_at(file) > started:
                return f"{file} is newer than what runs"
        left -= 1 + len(names)
        if left < 0:
            return f"it has more code than can be compared: over {_MOST_FILES} files in {path}"
    return ""


def _why_configured(facts: Mapping[str, Any], started: float) -> str:
    """A phrase if its configuration file is newer than the process."""
    file = command_line.config_file(facts["argv"])
    return f"{file} is newer than what runs" if file and _written_at(file) > started else ""


def _written_at(file: str) -> float:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0
