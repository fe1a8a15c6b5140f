"""Completion for bash and zsh, made by shtab from the parsers: `make made` writes the files anew.

shtab rather than argcomplete: static files complete without starting Python at each press of a key.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab

from sdsupervise.cli import commands

DIRECTORY = Path(__file__).parents[2] / "packaging" / "completion"
FILES = {"bash": DIRECTORY / "sdsupervise", "zsh": DIRECTORY / "_sdsupervise"}

# Where instances/locations.py looks, without asking it. Whoever can make a directory there chooses its name: a name is
# offered only where it is none but a word to every shell. (compgen -W would expand it, and run what is in $(...).)
_INSTANCES = {
    "bash": """\
_sdsupervise_instances() {
  local LC_ALL=C path name
  for path in "${XDG_RUNTIME_DIR:-/run/none}"/sdsupervise/*/control /run/sdsupervise/*/control \\
    "${XDG_CONFIG_HOME:-$HOME/.config}"/sdsupervise/*.toml /etc/sdsupervise/*.toml; do
    path=${path%/control} name=${path##*/} name=${name%.toml}
    [[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9_.@-]*$ && $name == "$1"* ]] && printf '%s\\n' "$name"
  done | sort -u
}
""",
    "zsh": """\
_sdsupervise_instances() {
  local -aU names
  names=(
    ${XDG_RUNTIME_DIR:-/run/none}/sdsupervise/*/control(N:h:t) /run/sdsupervise/*/control(N:h:t)
    ${XDG_CONFIG_HOME:-$HOME/.config}/sdsupervise/*.toml(N:t:r) /etc/sdsupervise/*.toml(N:t:r)
  )
  names=(${${names:#*[^A-Za-z0-9_.@-]*}:#[^A-Za-z0-9_]*})
  compadd -a names
}
""",
}
_KINDS = {"directory": shtab.DIRECTORY, "pid_file": shtab.FILE, "python": shtab.FILE, "target": shtab.FILE}


def made(shell: str) -> str:
    """The file for a shell."""
    parser = commands.parser()
    for each in _parsers(parser):
        for action in each._actions:
            if not action.option_strings and action.dest in ("name", "names"):
                action.complete = dict.fromkeys(_INSTANCES, "_sdsupervise_instances")  # type: ignore[attr-defined]
            elif action.dest in _KINDS:
                action.complete = _KINDS[action.dest]  # type: ignore[attr-defined]
    text = shtab.complete(parser, shell, preamble=_INSTANCES[shell])
    # Whoever reads it is told how it was made, not how to install what a package installs.
    text = re.sub(r"^# Usage:\n(#.*\n)+", "# Written by `make made`.\n", text, flags=re.MULTILINE)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip() + "\n"


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """This one and all below it, each described as briefly as where it is listed."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            brief = {choice.dest: choice.help for choice in action._choices_actions}
            for name, below in action.choices.items():
                below.description = brief[name]
                yield from _parsers(below)


def main() -> int:
    """Write both; 0."""
    DIRECTORY.mkdir(exist_ok=True)
    for shell, path in FILES.items():
        path.write_text(made(shell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
