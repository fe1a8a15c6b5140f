"""An example of an instance's file, with every key as a comment that explains it; made from instances/keys.py."""

import textwrap

from ..input.toml_text import written
from .keys import DEFAULTS, EXAMPLES, FILE_KEYS

_COLUMNS = 110
_TOP = """\
An instance of sdsupervise, for /etc/sdsupervise/NAME.toml. Every key is here, with its default value, or with an \
example if it has no default. Remove the '#' from a key that you change. 'sdsupervise check NAME' reports mistakes, \
'systemctl enable --now sdsupervise@NAME' starts the instance, and each reload reads the file again. See \
sdsupervise.toml(5)."""


def text() -> str:
    """Return the file's text. Each key's line is valid alone when its '#' is removed."""
    return "\n\n".join([_comment(_TOP), *map(_entry, FILE_KEYS)]) + "\n"


def _entry(key: str) -> str:
    kind = FILE_KEYS[key]
    whose = f"For a {kind.only_for}: " if kind.only_for else ""
    meaning = f"{whose}{kind.meaning}"
    wanted = "" if kind.form == "text" else f" {kind.wanted[:1].upper()}{kind.wanted[1:]}."
    value = EXAMPLES.get(key, DEFAULTS[key])
    return f"{_comment(f'{meaning[:1].upper()}{meaning[1:]}.{wanted}')}\n#{key} = {written(value)}"


def _comment(paragraph: str) -> str:
    return textwrap.fill(paragraph, _COLUMNS, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
