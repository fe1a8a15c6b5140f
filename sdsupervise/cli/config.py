"""`sdsupervise config`: the values that an instance uses, and the origin of each.

The output is TOML: each line can be copied into the file.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..checks import dry_run
from ..checks.dry_run import RunContext
from ..control.client import default_pid_file
from ..errors import ExitStatus, UsageError
from ..input.toml_text import written
from ..instances import example, instance_file, locations
from ..instances.instance import Instance
from ..instances.keys import DEFAULTS, FILE_KEYS, ONLY_FOR_CLASSES, ONLY_FOR_COMMANDS
from ..settings.settings import KINDS

_DEFAULT = "default"
_WIDEST_VALUE = 32  # characters; wider values do not move the column of origins


class _Value(NamedTuple):
    """The value of one key."""

    key: str
    value: object
    origin: str  # FILE:LINE, "class NAME", the name of a unit, or "default"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "config",
        help="show the settings of an instance",
        description="Show every setting of an instance, and where its value comes from: the file, the class, the "
        "unit, or the default. To read the settings of a class, the command imports the class in a separate process, "
        "as the user of the instance.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the instance, its unit, or its file")
    parser.add_argument("--config", metavar="FILE", help="the instance that FILE describes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--example", action="store_true", help="print a file to start from: every key with its meaning")
    parser.set_defaults(command=_config)


def _config(parsed: argparse.Namespace) -> int:
    if parsed.example and parsed.json:
        raise UsageError("--example has no JSON form; leave out --json.")
    if parsed.example:
        print(example.text(), end="")
        return ExitStatus.OK
    if bool(parsed.name) == bool(parsed.config):
        raise UsageError("Name an instance: NAME or --config FILE.")
    instance, around = dry_run.load(parsed.config or instance_file.file_of(parsed.name))
    values = list(_values(instance, around))
    print(_as_json(instance, values) if parsed.json else "\n".join(_lines(values)))
    return ExitStatus.OK


def _values(instance: Instance, around: RunContext) -> Iterator[_Value]:
    """The values of all keys that apply, in the order of FILE_KEYS."""
    facts = dry_run.describe(instance, around, around.identity()) if "service" in instance.values else None
    lines = instance_file.lines(instance.file)
    of_others = {**_of_class(instance, facts), **_of_unit(instance, around)}
    meaningless = ONLY_FOR_CLASSES if facts is None else ONLY_FOR_COMMANDS if facts["supervised"] else KINDS.keys()
    for key in FILE_KEYS:
        place = f"{instance.file}:{lines[key]}" if key in lines else ""
        if key in of_others:
            value, origin = of_others[key]
            # Both the class and the file list listeners. Every other key comes from one of them.
            yield _Value(key, value, f"{origin}, {place}" if key == "listen" and place else origin)
        elif place:
            yield _Value(key, instance.values[key], place)
        elif key == "pid_file":
            yield _Value(key, default_pid_file(instance.name, locations.run_directory(instance.name)), _DEFAULT)
        elif key not in meaningless and DEFAULTS[key] is not None:
            yield _Value(key, DEFAULTS[key], _DEFAULT)


def _of_class(instance: Instance, facts: Mapping[str, Any] | None) -> dict[str, tuple[object, str]]:
    """The values and origins from the class that the file does not override."""
    if facts is None:
        return {}
    said = {**facts["settings"], **{key: facts[key] for key in ("user", "group", "pid_file")}}
    usual = {
        **DEFAULTS,
        "listen": instance.listen,
        "pid_file": default_pid_file(instance.name, locations.run_directory(instance.name)),
    }
    origin = f"class {facts['class']}"
    return {
        key: (value, origin)
        for key, value in said.items()
        if value != usual[key] and (key == "listen" or key not in instance.values)
    }


def _of_unit(instance: Instance, around: RunContext) -> dict[str, tuple[object, str]]:
    """The values and origins from the unit. Its User= and Group= override the file; its directory does not."""
    said = {key: around.properties.get(key.capitalize()) for key in ("user", "group")}
    if "directory" not in instance.values and around.properties.get("WorkingDirectory"):
        said["directory"] = around.directory
    return {key: (value, around.unit) for key, value in said.items() if value}


def _lines(values: list[_Value]) -> Iterator[str]:
    """The aligned lines: key = value  # origin."""
    texts = {each.key: written(each.value) for each in values}
    keys = max(map(len, texts))
    width = max(len(text) for text in texts.values() if len(text) <= _WIDEST_VALUE)
    for each in values:
        counted = FILE_KEYS[each.key].unit
        note = f"{counted}, {each.origin}" if counted else each.origin
        yield f"{each.key:{keys}} = {texts[each.key]:{width}}  # {note}"


def _as_json(instance: Instance, values: list[_Value]) -> str:
    found = {each.key: {"value": each.value, "from": each.origin, "unit": FILE_KEYS[each.key].unit} for each in values}
    return json.dumps({"name": instance.name, "file": instance.file, "values": found}, default=str)
