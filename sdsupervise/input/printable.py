"""What others say, as it may be shown to a person and fits into a message: made so where it comes in, before it
becomes a reason of ours.

Messages are JSON of ASCII alone, where a character may take 12 bytes: so a text is measured by the bytes that it takes
there, never by its characters.

What Python calls printable is no control character, no format character (such as those that turn the direction of
writing, or have no width), no separator but the space, no half of a surrogate pair, and neither unassigned nor private.
"""

import json
from collections.abc import Callable

MOST_OF_REASON = 4 * 1024  # bytes in JSON, as all of these
_MOST_OF_LINE = 3 * 1024  # of which a reason is made, with words of ours
MOST_OF_TRACEBACK = 40 * 1024
# Letters and marks that are printable all the same, and show nothing: fillers, a joiner, selectors of shapes. Those two
# selectors stay that only say whether an emoji is coloured.
_SHOW_NOTHING = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0"
    "\ufe00\ufe01\ufe02\ufe03\ufe04\ufe05\ufe06\ufe07\ufe08\ufe09\ufe0a\ufe0b\ufe0c\ufe0d"
)
_TRACEBACK = "Traceback (most recent call last):"


def printable(text: str) -> str:
    """Lines with "?" for what would move a cursor, ring a bell, set a title, or turn or hide text on a terminal."""
    return "".join(letter if _is_shown(letter) or letter in "\n\t" else "?" for letter in text)


def one_line(text: str, most: int = 4096) -> str:
    """The same on one line, cut off where it has more than so many characters."""
    line = " ".join(printable(text[: most + 1]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def as_sentence(text: str) -> str:
    """With the stop that it lacks."""
    return text if text.endswith((".", ".)", "?")) else f"{text}."


def fit(text: str, most_bytes: int) -> str:
    """The text, or as much of its beginning as takes so many bytes in a message; what is cut off shows."""
    return _cut(text, most_bytes, lambda length: f"{text[:length]} ...")


def fit_end(text: str, most_bytes: int) -> str:
    """The same of its end, which says more where it is a log or a traceback."""
    return _cut(text, most_bytes, lambda length: f"... {text[-length:] if length else ''}")


def last_line(text: str) -> str:
    """The line that is the reason at the end of a traceback, or of whatever was said; short enough for one."""
    lines = [line for line in text.splitlines() if any(map(str.isalnum, line))]  # an ExceptionGroup ends in a ruler
    return fit(lines[-1].strip(" |"), _MOST_OF_LINE) if lines else ""


def reason_in(text: str) -> str:
    """What says best, of all a program wrote before it died, why it did: the last exception that it did not survive, as
    Python writes it, else the last line. (What is run at its exit may have something to say, too.)"""
    _, found, after = text.rpartition(f"{_TRACEBACK}\n")
    if found:
        text = next((line for line in map(_without_bar, after.splitlines()) if line and line[0] != " "), text)
    return last_line(text)


def _without_bar(line: str) -> str:
    """A line of an ExceptionGroup's traceback as it stands in others, where what is indented tells of a frame."""
    bare = line.lstrip(" ")
    return bare[2:] if bare.startswith("| ") else line


def fit_failure(text: str) -> str:
    """A traceback as it fits into a message: its end; and the beginning of its last line, if that alone is too long."""
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
