"""`sdsupervise unit`: puts a unit under sdsupervise, takes it out again, and reports what is wrong with one."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import CannotWrap, ConfigError, ExitStatus, UnitUnavailable, UsageError
from ..input.printable import one_line, printable
from ..instances import locations
from .choice import one_of

if TYPE_CHECKING:
    from ..instances.instance import Instance
    from ..settings.settings import Settings
    from ..unitfiles.drop_in import DropIn
    from ..unitfiles.finding import Finding
    from ..unitfiles.text import UnitText


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
    wrap.add_argument("--write", action="store_true", help="write the drop-in; nothing is restarted")
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
    from ..unitfiles import switch

    drop_in, given = _drop_in(parsed)
    is_written = parsed.write and not drop_in.is_empty
    remains = switch.write(drop_in, given) if is_written else ""
    if parsed.json:
        facts = {"unit": drop_in.unit, "path": drop_in.path, "text": drop_in.file, "notes": drop_in.notes}
        print(json.dumps({**facts, "written": is_written, "remains": remains}))
        return ExitStatus.OK
    if drop_in.is_empty:
        print(f"The template fits {drop_in.unit} as it is: there is nothing to write.", file=sys.stderr)
        return ExitStatus.OK
    text = f"wrote {drop_in.path}\n" if parsed.write else drop_in.text
    print(printable(text) if sys.stdout.isatty() else text, end="", flush=True)
    for note in drop_in.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    if remains:
        _print_remains(remains)
    return ExitStatus.OK


def _print_remains(command: str) -> None:
    print(f"what remains to do{', in one go' * ('&&' in command)}: {command}")


def _drop_in(parsed: argparse.Namespace) -> "tuple[DropIn, list[str]]":
    """The drop-in, and the .socket units of its service."""
    from ..unitfiles import host, rotation, switch
    from ..unitfiles.drop_in import why_undone, with_drop_in
    from ..unitfiles.paths import own_files, own_program
    from ..unitfiles.wrap import wrap

    unit = _unit_of(parsed.unit)
    if unit.startswith("sdsupervise@"):
        if parsed.listen or parsed.handover:
            raise UsageError("--listen and --handover are for a unit; for an instance, set both in its file.")
        return _fitted(locations.instance_name(unit)), []
    if "/" in unit:
        raise UsageError(f"{unit} is a path; name a unit that systemd knows.")
    text = host.read(unit)
    text = text.without(_written(text.name).path)  # the unit as it was before
    switch.check_kind(text.name, [assignment.path for assignment in text.assignments])
    given, program = host.sockets_of(text.name), own_program()
    drop_in = wrap(
        text,
        program=program,
        own=own_files(program),
        given=given,
        listen=parsed.listen,
        handover=parsed.handover or "",
        variables=host.variables_of(text),
        rotations=rotation.read(),
    )
    if why := why_undone(with_drop_in(text, drop_in), drop_in):
        raise CannotWrap(f"{text.name} cannot be wrapped: {why}; take that line out.")
    return drop_in, given


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
    from ..unitfiles.drop_in import DropIn

    return DropIn(unit, (), ())


def _unwrap(parsed: argparse.Namespace) -> int:
    from ..unitfiles import host, switch

    unit = _unit_of(parsed.unit)
    try:
        unit = host.read(unit).name  # `unit` may be an alias
    except UnitUnavailable:
        pass  # it is masked, or its file is gone
    drop_in = _written(unit)
    remains = switch.remove(drop_in)
    if parsed.json:
        print(json.dumps({"unit": drop_in.unit, "path": drop_in.path, "remains": remains}))
        return ExitStatus.OK
    print(f"removed {drop_in.path}", flush=True)
    _print_remains(remains)
    return ExitStatus.OK


def _lint(parsed: argparse.Namespace) -> int:
    from ..unitfiles import host, named_files, root_code
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
            *lint(unit, settings, facts, user=user, **_of_machine(unit)),
            *named_files.of_unit(unit),
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


def _of_machine(unit: "UnitText") -> "dict[str, Any]":
    """What this machine says about a unit that does not run sdsupervise, for lint()."""
    from ..unitfiles import host

    if any("sdsupervise" in value for value in unit.values("ExecStart")):
        return {}
    try:
        return {"given": host.sockets_of(unit.name), "variables": host.variables_of(unit)}
    except (CannotWrap, UnitUnavailable):
        return {}


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
