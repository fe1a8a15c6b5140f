"""Whether a running instance is what the disk has now: its directory, its code, and sdsupervise itself."""

import contextlib
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

from ..client import Client
from ..receipt import fingerprint_of, take_receipt_of_command
from .ask import TIMEOUT_SECONDS


def why_outdated(path: str) -> str:
    """Why the instance with this control socket should be reloaded, as a phrase; "" if the disk has what runs.

    Raises NotRunning, NotPermitted, HandoverError.
    """
    connection = Client.connect(path, timeout_seconds=TIMEOUT_SECONDS)
    try:
        answer = connection.ask("Code")
    finally:
        connection.close()
    if answer.error:
        return "its sdsupervise is too old to say what it runs"
    facts = answer.parameters
    return _why_package(facts) or _why_moved(facts) or _why_changed(facts)


def _why_package(facts: Mapping[str, Any]) -> str:
    """Another release of ours lies where it was loaded from."""
    try:
        with open(os.path.join(facts["package"], "__init__.py")) as file:
            found = re.search(r'^__version__ = "([^"]+)"', file.read(), re.MULTILINE)
    except OSError:
        return f"sdsupervise is not in {facts['package']} any more"
    if found and found[1] != facts["version"]:
        return f"it runs sdsupervise {facts['version']}, and {found[1]} is installed"
    return ""


def _why_moved(facts: Mapping[str, Any]) -> str:
    """What it was given by name, a directory or a script, is another one now."""
    running = facts["path"]
    directory = _directory(facts)
    if directory:
        now = os.path.realpath(directory)
        if now != facts["working_directory"]:
            return f"{directory} is {now} now, and it runs {facts['working_directory']}"
    if facts["command"]:
        return ""  # whose program and files are compared by content and name
    for word in _own_words(facts):
        script = word.rpartition(":")[0] or word
        now = os.path.realpath(os.path.join(directory or facts["directory"], script))
        same_name = os.path.basename(now) == os.path.basename(running)
        if same_name and now != running and os.path.isfile(now):
            return f"{script} is {now} now, and it runs {running}"
    return ""


def _why_changed(facts: Mapping[str, Any]) -> str:
    """It lies where it lay, and is not the same."""
    if facts["command"]:
        executable, *words = facts["command"]
        try:
            with contextlib.chdir(facts["working_directory"]):
                now = take_receipt_of_command(executable, words)
        except OSError:
            return f"{facts['working_directory']} is gone"
        changed = (now.path, now.fingerprint) != (facts["path"], facts["fingerprint"])
        return f"{shlex.join(words)} has changed on disk" if changed else ""
    if facts["complete"] and facts["modules"]:
        modules = [(module["name"], module["file"]) for module in facts["modules"]]
        if fingerprint_of(modules) != facts["fingerprint"]:
            return f"{facts['path']} has changed on disk"
    return ""


def _directory(facts: Mapping[str, Any]) -> str:
    """The working directory by the name that a reload follows anew."""
    given = ""
    words = _own_words(facts)
    for number, word in enumerate(words):
        if word == "--directory" and number + 1 < len(words):
            given = words[number + 1]
        elif word.startswith("--directory="):
            given = word.partition("=")[2]
    return os.path.join(facts["directory"], given)


def _own_words(facts: Mapping[str, Any]) -> list[str]:
    """Its command line, without that of a command it runs."""
    argv = list(facts["argv"])
    return argv[: argv.index("--")] if "--" in argv else argv
