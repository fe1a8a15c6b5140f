"""Texts from other processes, made printable and short enough for a message as soon as they arrive.

Messages are JSON in ASCII, where one character may take 12 bytes. So a text is measured by the bytes that it takes
there, not by its characters.

Python's str.isprintable() excludes control characters, format characters (such as those that turn the direction of
writing, or have no width), separators other than the space, halves of a surrogate pair, and unassigned and private
characters.
"""

import json
from collections.abc import Callable

MOST_OF_REASON = 4 * 1024  # bytes in JSON, as all of these
_MOST_OF_LINE = 3 * 1024  # a reason is such a line and words of ours
MOST_OF_TRACEBACK = 40 * 1024
# Letters and marks that count as printable and show nothing: fillers, a joiner, variation selectors. The two selectors
# that only say whether an emoji is coloured are allowed.
_SHOW_NOTHING = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0"
    "\ufe00\ufe01\ufe02\ufe03\ufe04\ufe05\ufe06\ufe07\ufe08\ufe09\ufe0a\ufe0b\ufe0c\ufe0d"
)
_TRACEBACK = "Traceback (most recent call last):"


def printable(text: str) -> str:
    """Return the lines with "?" for each character that would control the terminal, or turn or hide text there."""
    return "".join(letter if _is_shown(letter) or letter in "\n\t" else "?" for letter in text)


def one_line(text: str, most: int = 4096) -> str:
    """Return the text printable and on one line, cut off after `most` characters."""
    line = " ".join(printable(text[: most + 1]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def as_sentence(text: str) -> str:
    """Return the text with a full stop, if it has no such mark at its end."""
    return text if text.endswith((".", ".)", "?")) else f"{text}."


def fit(text: str, most_bytes: int) -> str:
    """Return the text, or as much of its beginning as takes `most_bytes` bytes in JSON; " ..." marks the cut."""
    return _cut(text, most_bytes, lambda length: f"{text[:length]} ...")


def fit_end(text: str, most_bytes: int) -> str:
    """Return the text, or as much of its end as takes `most_bytes` bytes in JSON; "... " marks the cut.

    The end of a log or a traceback says more than its beginning.
    """
    return _cut(text, most_bytes, lambda length: f"... {text[-length:] if length else ''}")


def last_line(text: str) -> str:
    """Return the last line that has a letter or a digit, short enough for a reason; "" if there is none."""
    # an ExceptionGroup's traceback ends in a ruler
    lines = [line for line in text.splitlines() if any(map(str.isalnum, line))]
    return fit(lines[-1].strip(" |"), _MOST_OF_LINE) if lines else ""


def reason_in(text: str) -> str:
    """Return the line that best says why a program died, from all that it wrote: the last uncaught exception, as Python
    writes it, else the last line.

    (Code that runs at the program's exit may write lines after the exception.)
    """
    _, found, after = text.rpartition(f"{_TRACEBACK}\n")
    if found:
        text = next((line for line in map(_without_bar, after.splitlines()) if line and line[0] != " "), text)
    return last_line(text)


def _without_bar(line: str) -> str:
    """Return a line of an ExceptionGroup's traceback without the bar before it. Lines of frames stay indented."""
    bare = line.lstrip(" ")
    return bare[2:] if bare.startswith("| ") else line


def fit_failure(text: str) -> str:
    """Return a traceback short enough for a message: its end, and the beginning of a last line that is too long."""
    above, newline, _ = text.rstrip().rpartition("\n")
    return f"{fit_end(above, MOST_OF_TRACEBACK - MOST_OF_REASON)}{newline}{last_line(text)}"


def _cut(text: str, most_bytes: int, cut: Callable[[int], str]) -> str:
    if len(text) <= most_bytes and len(json.dumps(text)) <= most_bytes:
        return text
    fits, too_long = 0, min(len(text), most_bytes)
    while too_long - fits > 1:
        length = (fits + too_long) // 2
        if len(json.dumps(cut(length))) <= most_bytes:
            fits = length
        else:
            too_long = length
    return cut(fits)


def _is_shown(letter: str) -> bool:
    return letter.isprintable() and letter not in _SHOW_NOTHING and not "\U000e0100" <= letter <= "\U000e01ef"
