"""What others say, cut so that it fits into a message and says what counts."""

from __future__ import annotations

import json
import traceback

import pytest

from sdsupervise.input.printable import MOST_OF_TRACEBACK, fit, fit_end, fit_failure, last_line, printable, reason_in

TEXTS = {
    "ascii": "x" * 100_000,
    "quotes": '"\\' * 50_000,
    "two bytes": "é" * 100_000,
    "wide": "\N{GRINNING FACE}" * 100_000,
    "control": "\x01" * 100_000,
    "half": "\ud800" * 100_000,
    "mixed": "aé\N{GRINNING FACE}\n" * 25_000,
}


@pytest.mark.parametrize("most", [10, 100, 4096, 65536])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_cut_fits_and_no_more_is_cut_than_must_be(text: str, most: int) -> None:
    """Measured in the bytes it takes in a message, whatever it is made of."""
    beginning, end = fit(text, most), fit_end(text, most)
    for cut in (beginning, end):
        assert most - 12 <= len(json.dumps(cut)) <= most
    assert text.startswith(beginning[:-4]) and text.endswith(end[4:])
    assert fit(text, most).endswith(" ...") and fit_end(text, most).startswith("... ")


def test_what_fits_is_left_alone() -> None:
    """To the last byte."""
    assert fit("é" * 10, 62) == fit_end("é" * 10, 62) == "é" * 10
    assert fit("é" * 10, 61) == "é" * 9 + " ..."
    assert fit("", 2) == fit_failure("") == last_line("") == reason_in("") == ""


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_failure_keeps_the_beginning_of_its_last_line(text: str) -> None:
    """Which says what went wrong, and the end of what stands above it, which says where."""
    above = "".join(f'  File "service.py", line {number}, in deep\n' for number in range(5000))
    cut = fit_failure(f"Traceback (most recent call last):\n{above}ValueError: {text.replace(chr(10), '')}\n")
    assert len(json.dumps(cut)) <= MOST_OF_TRACEBACK + 100
    lines = cut.splitlines()
    assert lines[-1].startswith("ValueError: ") and lines[-2].endswith("line 4999, in deep")


def written(raise_it: str, names: dict[str, object] | None = None) -> str:
    """The traceback of some code, as Python writes it."""
    try:
        exec(raise_it, names or {})
    except BaseException as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError


REASONS = {
    "1 / 0": "ZeroDivisionError: division by zero",
    "import requsts": "ModuleNotFoundError: No module named 'requsts'",
    "a b": "SyntaxError: invalid syntax",
    "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise OSError('no disk') from e": "OSError: no disk",
    "raise ValueError('first\\nsecond')": "ValueError: first",
    "raise ValueError('a | b')": "ValueError: a | b",
    "raise ExceptionGroup('both', [OSError('x'), ValueError('y')])": "ExceptionGroup: both (2 sub-exceptions)",
}


@pytest.mark.parametrize("code", REASONS)
@pytest.mark.parametrize("after", ["", "flushed 12 spans, goodbye\n", "\n  indented\nExit.\n"])
def test_the_reason_in_what_an_interpreter_wrote(code: str, after: str) -> None:
    """It is the exception, whatever was written before it and after it."""
    if code == "a b" and after:
        return  # an error of syntax has no heading: but then nothing of the code has run that could say more
    assert reason_in(f"Starting.\n{written(code)}{after}").startswith(REASONS[code])


def test_the_reason_without_an_exception() -> None:
    """It is the last line that says something."""
    assert reason_in("Starting.\nno license\n\n  ---\n") == "no license"
    assert last_line(written("raise ExceptionGroup('both', [ValueError('y')])")) == "ValueError: y"


def test_control() -> None:
    """What would do something to a terminal does nothing."""
    assert printable("a\x1b[31m\u202eb\tc\n") == "a?[31m?b\tc\n"
