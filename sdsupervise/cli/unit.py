"""`sdsupervise unit`: puts a unit under sdsupervise, takes it out again, and reports what is wrong with one."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import ConfigError, ExitStatus, UnitUnavailable, UsageError
from ..input.printable import one_line, printable
from ..instances import locations
from .choice import one_of

if TYPE_CHECKING:
    from ..instances.instance import Instance
    from ..settings.settings import Settings
    from ..unitfiles.finding import Finding
    from ..unitfiles.text import UnitText
    from ..unitfiles.wrap import DropIn

_PROGRAM = "/usr/bin/sdsupervise"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command. Its modules are imported when it runs."""
    parser = commands.add_parser(
        "unit",
        help="put a unit under sdsupervise, or check a unit",
        description="Put an existing unit under sdsupervise, undo that, or report what does not work in a unit.",
    )
    verbs = parser.add_subparsers(title="what to do", metavar="VERB", required=True)
    wrap = verbs.add_parser(
        "wrap",
        help="print or write the drop-in that puts a unit under sdsupervise",
        description="Print the drop-in that puts an existing unit under sdsupervise, and explain each change. All "
        "other settings of the unit stay. For an instance with a file, /etc/sdsupervise/NAME.toml, print the drop-in "
        "that fits the template to it. Exit status 78: it cannot work; 69: there is no such unit.",
    )
    wrap.add_argument("unit", metavar="UNIT|NAME", help="an existing unit, or an instance")
    wrap.add_argument(
        "--write", action="store_true", help="write the drop-in, and let systemd read it; nothing is restarted"
    )
    wrap.add_argument(
        "--listen", metavar="NAME=ADDRESS", action="append", default=[], help="a socket, as in sdsupervise run"
    )
    wrap.add_argument(
        "--handover", **one_of("exclusive", "overlap"), help="whether two generations may serve at a time"
    )
    wrap.add_argument("--json", action="store_true", help="print one JSON object")
    wrap.set_defaults(command=_wrap)
    unwrap = verbs.add_parser(
        "unwrap",
        help="remove that drop-in",
        description="Remove the drop-in that `sdsupervise unit wrap --write` wrote; nothing is restarted.",
    )
    unwrap.add_argument("unit", metavar="UNIT|NAME", help="a wrapped unit, or an instance")
    unwrap.add_argument("--json", action="store_true", help="print one JSON object")
    unwrap.set_defaults(command=_unwrap)
    lint = verbs.add_parser(
        "lint",
        help="report what does not work in a unit, and how to fix it",
        description="Report what does not work in a unit that runs sdsupervise, one line each, with what to write "
        "instead. Code that root would execute and that other users may write is reported, too. Exit status 1: there "
        "is an error; 69: there is no such unit; 0: there are only warnings, or nothing.",
    )
    lint.add_argument(
        "units",
        nargs="*",
        metavar="UNIT|NAME",
        help="a unit, an instance, or the path of a unit file; default: all units that run sdsupervise",
    )
    lint.add_argument("--json", action="store_true", help="print one line of JSON for each finding")
    lint.set_defaults(command=_lint)


def _wrap(parsed: argparse.Namespace) -> int:
    from ..unitfiles import host, install

    drop_in = _drop_in(parsed)
    if parsed.write and not drop_in.is_empty:
        install.write(drop_in)
        host.reread()
    if parsed.json:
        facts = {"unit": drop_in.unit, "path": drop_in.path, "text": drop_in.file, "notes": drop_in.notes}
        print(json.dumps({**facts, "written": parsed.write and not drop_in.is_empty}))
        return ExitStatus.OK
    if drop_in.is_empty:
        print(f"The template fits {drop_in.unit} as it is: there is nothing to write.", file=sys.stderr)
        return ExitStatus.OK
    text = f"wrote {drop_in.path}\n" if parsed.write else drop_in.text
    print(printable(text) if sys.stdout.isatty() else text, end="", flush=True)
    for note in drop_in.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    if parsed.write:
        verb = "restart" if host.is_active(drop_in.unit) else "start"
        print(f"what remains to do: systemctl {verb} {drop_in.unit.removesuffix('.service')}")
    return ExitStatus.OK


def _drop_in(parsed: argparse.Namespace) -> "DropIn":
    from ..unitfiles import host, rotation
    from ..unitfiles.wrap import wrap

    unit = _unit_of(parsed.unit)
    if unit.startswith("sdsupervise@"):
        if parsed.listen or parsed.handover:
            raise UsageError("--listen and --handover are for a unit; for an instance, set both in its file.")
        return _fitted(locations.instance_name(unit))
    if "/" in unit:
        raise UsageError(f"{unit} is a path; name a unit that systemd knows.")
    text = host.read(unit)
    text = text.without(_written(text.name).path)  # the unit as it was before
    program = _PROGRAM if os.access(_PROGRAM, os.X_OK) else os.path.abspath(sys.argv[0])
    given = host.sockets_of(text.name)
    return wrap(
        text,
        program=program,
        given=given,
        listen=parsed.listen,
        handover=parsed.handover or "",
        variables=host.variables_of(text),
        rotations=rotation.read(),
    )


def _fitted(name: str) -> "DropIn":
    from ..instances import instance_file
    from ..unitfiles.fit import fit

    file = locations.config_file(name)
    if file is None:
        raise UnitUnavailable(f"There is no instance {name}: no {locations.where_configured(name)}.")
    read = instance_file.read(file)
    return fit(read, _settings_of(read))


def _settings_of(instance: "Instance") -> "Settings":
    """The settings of an instance's file. What only its class lists cannot be checked here."""
    from ..settings.settings import check_settings

    values = {**instance.settings, "listen": instance.listen}
    if "command" not in instance.values:
        for name in ("before_commit_each",) if instance.listen else ("before_commit_each", "before_commit"):
            values.pop(name, None)
    return check_settings(instance.file, values)


def _unit_of(text: str) -> str:
    """The unit for a unit's or an instance's name; an instance that has a file takes precedence."""
    name = locations.instance_name(text)
    said_ours = text.startswith("sdsupervise@")
    if said_ours or (not text.endswith(".service") and "/" not in text and locations.config_file(name)):
        return f"sdsupervise@{name}.service"
    return text if text.endswith(".service") else f"{text}.service"


def _written(unit: str) -> "DropIn":
    """The drop-in that `unit wrap --write` would write, only for its path."""
    from ..unitfiles.wrap import DropIn

    return DropIn(unit, (), ())


def _unwrap(parsed: argparse.Namespace) -> int:
    from ..unitfiles import host, install

    drop_in = _written(_unit_of(parsed.unit))
    name = drop_in.unit.removesuffix(".service")
    install.remove(drop_in)
    if not parsed.json:
        print(f"removed {drop_in.path}", flush=True)
    if host.is_active(drop_in.unit):
        # After a daemon-reload systemd may ignore the supervisor's messages, and its watchdog would end it.
        remains = f"systemctl daemon-reload && systemctl restart {name}"
    else:
        host.reread()
        remains = f"systemctl start {name}"
    if parsed.json:
        print(json.dumps({"unit": drop_in.unit, "path": drop_in.path, "remains": remains}))
    else:
        print(f"what remains to do{', in one go' * ('&&' in remains)}: {remains}")
    return ExitStatus.OK


def _lint(parsed: argparse.Namespace) -> int:
    from ..unitfiles import host, root_code
    from ..unitfiles.finding import ERROR
    from ..unitfiles.lint import lint

    facts = host.facts()
    meant = [text if "/" in text else _unit_of(text) for text in parsed.units]
    units = map(host.read, meant or host.our_units())
    found = {}
    for unit in units:
        instance, settings = _described(unit)
        user = instance.values.get("user") if instance is not None else None
        found[unit.name] = [
            *lint(unit, settings, facts, user=user),
            *root_code.of_unit(unit, user),
            *_of_file(unit, instance),
        ]
    if parsed.json:
        for name, findings in found.items():
            for finding in findings:
                print(json.dumps({"unit": name, **finding._asdict()}))
    else:
        for name, findings in found.items():
            for finding in findings:
                print(printable(f"{name}: {finding}"))
        good = [name for name, findings in found.items() if not findings]
        if good:
            print(f"nothing is wrong with {', '.join(good)}", file=sys.stderr)
        if not found:
            print("no unit here runs sdsupervise", file=sys.stderr)
    errors = any(finding.severity == ERROR for findings in found.values() for finding in findings)
    return ExitStatus.FAILED if errors else ExitStatus.OK


def _described(unit: "UnitText") -> "tuple[Instance | None, Settings | None]":
    """The instance of a unit of the template, and its settings, if its file is valid."""
    from ..instances import instance_file

    file = locations.config_file(locations.instance_name(unit.name)) if unit.name.startswith("sdsupervise@") else None
    if file is None:
        return None, None
    try:
        read = instance_file.read(file)
        return read, _settings_of(read)
    except (ConfigError, UsageError):
        return None, None  # `sdsupervise check` reports the error


def _of_file(unit: "UnitText", instance: "Instance | None") -> "Iterator[Finding]":
    """Findings about writable code that root executes because the instance's file names it."""
    from ..instances.code_of_root import of_instance, written_by_others
    from ..unitfiles.root_code import finding, starts_as_root

    if instance is not None and starts_as_root(unit):
        directory = instance.values.get("directory", "/")
        yield from (finding(instance.file, found) for found in written_by_others(of_instance(instance, directory)))
