"""reStructuredText, as the pages need it."""

from __future__ import annotations

import re
from textwrap import indent


def escaped(text: str) -> str:
    """The text as it is, where reStructuredText would read more into it."""
    return re.sub(r"([\\*`|]|_\b)", r"\\\1", " ".join(text.split()))


def literal(text: str) -> str:
    """The text as a block of its own, line by line."""
    return f"::\n\n{indent(text.strip(chr(10)), '  ')}\n"


def defined(term: str, *paragraphs: str) -> str:
    """An entry of a list of definitions."""
    return "\n".join([term, *(indent(paragraph, "  ") + "\n" for paragraph in paragraphs if paragraph)]) + "\n"


def sentence(text: str) -> str:
    """The text with a full stop behind it and a capital letter in front, unless that is a name."""
    first = text.partition(" ")[0]
    if not re.search(r"[_:/(]|\w\.\w", first):
        text = text[:1].upper() + text[1:]
    return text + "." * (not text.endswith((".", "!")))
