"""The file and the directory of a running instance, from its command line, as a reload would find them now."""

import os
import tomllib
from collections.abc import Sequence

from ..instances import locations


def config_file(argv: Sequence[str]) -> str:
    """The instance's file, from its command line; "" if there is none."""
    words = _own_words(argv)
    given = _option(words, "--config")
    if given:
        return given
    named = words[words.index("run") + 1 :] if "run" in words else []
    files = [locations.config_file(word) for word in named if locations.is_name(word)]
    return next((file for file in files if file), "")


def directory(argv: Sequence[str], started_in: str) -> str:
    """The working directory by its name in the command line or the file; else the one where it was started."""
    given = _option(_own_words(argv), "--directory")
    file = "" if given else config_file(argv)
    if file:
        try:
            with open(file, "rb") as content:
                given = str(tomllib.load(content).get("directory", ""))
        except (OSError, ValueError):  # `sdsupervise check` reports the error
            pass
    return os.path.join(started_in, given) if given else started_in


def scripts(argv: Sequence[str]) -> list[str]:
    """The words of its own command line that may be a class's file."""
    words = [word.rpartition(":")[0] or word for word in _own_words(argv)]
    return [word for word in words if word.endswith(".py")]


def _own_words(argv: Sequence[str]) -> list[str]:
    """The command line without the words of a command that it runs."""
    words = list(argv)
    return words[: words.index("--")] if "--" in words else words


def _option(words: Sequence[str], name: str) -> str:
    """The value of `NAME VALUE` or `NAME=VALUE`."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""
