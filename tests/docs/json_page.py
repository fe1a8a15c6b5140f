"""The reference of JSON, packaging/doc/json.md: `make made` makes its tables anew.

They come from the interfaces of the control socket, and from packaging/doc/commands.varlink, which describes what the
commands print. tests/machines/test_json.py holds each command to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import sdsupervise
from tests.docs.documents import CLONE, put
from tests.support.varlink_idl import Enum, Interface, Struct, Wrapped

PAGE = CLONE / "packaging" / "doc" / "json.md"
_CONTROL = Path(sdsupervise.__file__).parent / "control"
OURS = Interface((_CONTROL / "io.sdsupervise.varlink").read_text())
EVERYBODYS = Interface((_CONTROL / "org.varlink.service.varlink").read_text())
PRINTED = Interface((CLONE / "packaging" / "doc" / "commands.varlink").read_text())
# What else such a line has.
_MORE: Mapping[str, object] = {
    "Shown": OURS.methods["Status"][1],
    "Failed": OURS.errors["ReloadFailed"],
    "Refused": OURS.errors["ReloadRefused"],
}
_PLAIN = {"bool": "true or false", "int": "whole number", "float": "number", "string": "text", "object": "any value"}


class Output(NamedTuple):
    """A line that a command prints."""

    command: str
    about: str
    name: str  # of its type

    @property
    def struct(self) -> Struct:
        """All of its fields."""
        own, more = PRINTED.types[self.name], _MORE.get(self.name, Struct({}))
        assert isinstance(own, Struct) and isinstance(more, Struct)
        return Struct({**own.fields, **more.fields}, {**own.meanings, **more.meanings})


def outputs() -> Iterator[Output]:
    """Each line of each command, in the order of commands.varlink."""
    for name in PRINTED.types:
        command, _, about = PRINTED.comments[name].partition("\n")
        if command.removeprefix("also ").startswith("sdsupervise "):
            yield Output(command.removeprefix("also "), about.replace("\n", " "), name)


def complaints(output: Output, line: object) -> list[str]:
    """What is wrong with a line that a command has printed."""
    checker = Interface("interface all")
    checker.types = {**OURS.types, **PRINTED.types}
    return list(checker.complaints(output.struct, line, output.name))


# -------------------------------------------------------------------------------------------------------- the tables


def printed() -> str:
    """What the commands print."""
    parts: list[str] = []
    command = ""
    for output in outputs():
        if output.command != command:
            command = output.command
            parts.append(f"### {command}")
        own = PRINTED.types[output.name]
        assert isinstance(own, Struct)
        parts += [output.about, _table(own)]
    return "\n\n".join(parts)


def methods() -> str:
    """What the control socket understands."""
    parts = []
    for interface in (OURS, EVERYBODYS):
        for name, (given, answered) in interface.methods.items():
            parts += [f"### {interface.name}.{name}", _about(interface, name)]
            for title, struct in (("Parameters", given), ("Answer", answered)):
                assert isinstance(struct, Struct)
                parts += [f"{title}:", _table(struct)] if struct.fields else [f"{title}: none."]
    return "\n\n".join(parts)


def errors() -> str:
    """The errors of the control socket."""
    parts = []
    for interface in (OURS, EVERYBODYS):
        for name, struct in interface.errors.items():
            assert isinstance(struct, Struct)
            parts += [
                f"### {interface.name}.{name}",
                _about(interface, name),
                *([_table(struct)] if struct.fields else []),
            ]
    return "\n\n".join(parts)


def types() -> str:
    """The types that have a name."""
    printed_lines = {output.name for output in outputs()}
    parts = []
    for interface in (OURS, PRINTED):
        for name, what in interface.types.items():
            if name not in printed_lines:
                text = _table(what) if isinstance(what, Struct) else f"One of {_in_words(what)}."
                parts += [f"### {name}", _about(interface, name), text]
    return "\n\n".join(parts)


MADE: Mapping[str, Callable[[], str]] = {"commands": printed, "methods": methods, "errors": errors, "types": types}


def _about(interface: Interface, name: str) -> str:
    return " ".join(interface.comments[name].split())


def _table(struct: Struct) -> str:
    rows = [
        f"| `{name}` | {_in_words(what)} | {struct.meanings.get(name, '')} |".replace("|  |", "| |")
        for name, what in struct.fields.items()
    ]
    return "\n".join(["| field | value | meaning |", "|---|---|---|", *rows])


def _in_words(what: object) -> str:
    match what:
        case Wrapped("?", inner):
            return f"{_in_words(inner)} (optional)"
        case Wrapped("[]", inner):
            return f"list of: {_in_words(inner)}"
        case Wrapped("[string]", inner):
            return f"object, of which each value is: {_in_words(inner)}"
        case Enum(words):
            return ", ".join(f'`"{word}"`' for word in words)
        case str() if what in _PLAIN:
            return _PLAIN[what]
        case str():
            return f"[{what}](#{what.lower()})"
    raise ValueError(what)


def page(text: str) -> str:
    """The page with its tables made anew."""
    for name, make in MADE.items():
        text = put(text, name, f"\n{make()}\n")
    return text


def main() -> int:
    """Write the page anew; 0."""
    PAGE.write_text(page(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
