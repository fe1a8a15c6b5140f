"""`sdsupervise run NAME` and `run --config FILE`: the command line takes precedence over the file."""

import argparse
import os
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder

from ..errors import ServiceNotLoadable, UsageError
from ..input.nearest import did_you_mean
from ..instances import locations, run_directory
from ..instances.instance import is_file
from ..instances.instance_reader import read_apart


def complete(
    parsed: argparse.Namespace, overrides: Mapping[str, object], listen: Mapping[str, object]
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Add the values of the instance's file to `parsed`. Returns the settings and the listeners.

    Does nothing for a module. Raises UsageError, ConfigError; ServiceNotLoadable if there is neither.
    """
    file = _file(parsed)
    if file is None:
        return overrides, listen
    if parsed.name is not None:
        raise UsageError("--name is for a COMMAND; an instance has the name of its file.")
    described = read_apart(file, directory=parsed.directory)
    values = described.values
    parsed.instance = parsed.name = described.name
    parsed.target = values.get("service")
    parsed.words = [*values.get("command", ()), *parsed.arguments]
    parsed.arguments = [*values.get("arguments", ()), *parsed.arguments]
    for key in ("directory", "python", "user", "group", "pid_file"):
        if getattr(parsed, key) is None and not (key == "pid_file" and parsed.no_pid_file):
            setattr(parsed, key, values.get(key))
    parsed.no_warn = parsed.no_warn or values.get("no_warn", False)
    run_directory.provide(described.name)
    return {**described.settings, **overrides}, {**described.listen, **listen}


def _file(parsed: argparse.Namespace) -> str | None:
    """The file of the instance; None for a module."""
    name = parsed.target
    if parsed.config is not None:
        if name is not None:
            raise UsageError("--config already names what to run; write the service's own arguments after '--'.")
        return str(parsed.config)
    if is_file(name):
        return str(name)
    is_module = all(part.isidentifier() for part in name.split("."))
    if not locations.is_name(name) and not is_module:
        raise UsageError(f"Neither an instance nor a module can be called {name!r}: {locations.NAMES}.")
    file = locations.config_file(name) if locations.is_name(name) else None
    if file is None:
        files = locations.where_configured(name)
        here = parsed.directory or os.getcwd()
        # The modules of another interpreter are not visible here.
        if not is_module or (parsed.python is None and not _finds_module(name, here)):
            raise ServiceNotLoadable(
                f"There is neither an instance {name} (no {files}) nor a module {name} (in {here} or in the search "
                f"path of Python).{did_you_mean(name, locations.configured())}"
            )
        parsed.no_file = files
    return file


def _finds_module(name: str, directory: str) -> bool:
    """Whether there is such a module, or its top package."""
    top = name.partition(".")[0]
    return top in sys.modules or PathFinder.find_spec(top, [directory, *sys.path]) is not None
