"""`sdsupervise unit`: units that run under sdsupervise: put one under it, take it away again, and say what is wrong."""

import argparse
import json
import sys

from ..errors import ExitStatus


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command, whose modules are imported only when it runs."""
    parser = commands.add_parser(
        "unit",
        help="put a unit under sdsupervise, or say what is wrong with one",
        description="Put an existing unit under sdsupervise, take it away again, or say what will not work in a unit.",
    )
    verbs = parser.add_subparsers(title="what to do", metavar="VERB", required=True)
    lint = verbs.add_parser(
        "lint",
        help="say what will not work in a unit, and how to mend it",
        description="Say what will not work in a unit that runs sdsupervise: a line each, with what to write instead. "
        "Exit status 1 if something is an error, 69 if there is no such unit; warnings alone leave it 0.",
    )
    lint.add_argument(
        "units", nargs="*", metavar="UNIT", help="a unit, or the path of a file; without one: all of ours"
    )
    lint.add_argument("--json", action="store_true", help="the same as one JSON array")
    lint.set_defaults(command=_lint)


def _lint(parsed: argparse.Namespace) -> int:
    from ..unitfiles import host
    from ..unitfiles.lint import lint
    from ..unitfiles.subject import ERROR

    facts = host.facts()
    names = parsed.units or host.our_units()
    found = {(unit := host.read(name)).name: lint(unit, host=facts) for name in names}
    if parsed.json:
        entries = [{"unit": name, **finding._asdict()} for name, findings in found.items() for finding in findings]
        print(json.dumps(entries))
    else:
        for name, findings in found.items():
            for finding in findings:
                print(f"{name}: {finding}")
        good = [name for name, findings in found.items() if not findings]
        if good:
            print(f"nothing is wrong with {', '.join(good)}", file=sys.stderr)
        if not found:
            print("no unit here runs sdsupervise", file=sys.stderr)
    errors = any(finding.severity == ERROR for findings in found.values() for finding in findings)
    return ExitStatus.FAILED if errors else ExitStatus.OK
