"""Readers of what others say, and what of a text can be shown."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest

from sdsupervise.control import answers
from sdsupervise.errors import NotReadable, UsageError
from sdsupervise.handover.messages import SHAPES
from sdsupervise.input import checked
from sdsupervise.input.checked import Unfit
from sdsupervise.input.printable import one_line, printable
from sdsupervise.instances import locations
from sdsupervise.linux.files import read_regular
from tests.support.descriptions import CONTROL, HANDOVER_FIXTURES
from tests.support.varlink_idl import Struct


def each(read: checked.Reader, *values: object) -> list[tuple[checked.Reader, object]]:
    return [(read, value) for value in values]


GOOD = [
    *each(checked.whole(1, 3), 1, 3),
    *each(checked.number(0, 2), 0, 1.5, 2),
    *each(checked.text(3), "", "abc", "\udc80"),
    *each(checked.maybe(checked.pid), None, 7),
    *each(checked.list_of(checked.flag, 2), [], [True, False]),
    *each(checked.seconds, 0, 0.5, checked.MOST_SECONDS),
]
NO_NUMBERS: tuple[object, ...] = (True, "1", None, [], 10**5000, math.nan, math.inf, -math.inf)
BAD = [
    *each(checked.whole(1, 3), 0, 4, 1.0, *NO_NUMBERS),
    *each(checked.number(2, 3), 1.9, 3.1, *NO_NUMBERS),
    *each(checked.text(3), "abcd", "\0", "\ud800", 7, None, b"a"),
    *each(checked.flag, 0, 1, "true", None),
    *each(checked.list_of(checked.flag, 2), None, {}, "ab", [True] * 3, [7]),
    *each(checked.map_of(checked.flag, 1, name=checked.text(1)), [], {"ab": True}, {"a": 7}, 7),
    *each(checked.record({"a": checked.flag}), {}, {"a": 7}, [], None, "a"),
    *each(checked.tuple_of(checked.flag, checked.pid), [], [True], [True, 7, 8], [7, True], "ab"),
    *each(checked.one_of("a", "b"), "c", 7, None, [], ""),
    *each(checked.either(checked.flag, checked.pid), "x", 0, None),
    *each(checked.patience, "x", None, math.nan, True),
]


@pytest.mark.parametrize(("read", "value"), GOOD)
def test_good(read: checked.Reader, value: object) -> None:
    """What is right is given back as it is."""
    assert read(value, "it") == value


@pytest.mark.parametrize(("read", "value"), BAD, ids=map(str, range(len(BAD))))
def test_bad(read: checked.Reader, value: object) -> None:
    """What is not is refused, by one short sentence that does not quote it."""
    with pytest.raises(Unfit) as raised:
        read(value, "it")
    assert str(raised.value).startswith(("it", "a name in it")) and len(str(raised.value)) < 200


@pytest.mark.parametrize("value", [1e6, 1e20, math.inf, 10**400, -1, -math.inf])
def test_patience(value: float) -> None:
    """Of whoever asks for too much time, so much is believed as can be waited."""
    assert 0 <= checked.patience(value, "it") <= checked.MOST_SECONDS


def test_record_leaves_out_what_it_does_not_name() -> None:
    """A later release may say more; and null is as good as nothing where nothing is allowed."""
    read = checked.record({"a": checked.flag}, {"b": checked.pid, "c": checked.pid})
    assert read({"a": True, "b": None, "c": 7, "z": [[[]]]}, "") == {"a": True, "c": 7}


def test_places_are_named() -> None:
    """Where in a message something is wrong is said."""
    read = checked.record({"workers": checked.list_of(checked.record({"pid": checked.pid}), 5)})
    with pytest.raises(Unfit, match=r"^workers\[1\]\.pid must be a whole number from 1 to 4194304$"):
        read({"workers": [{"pid": 1}, {"pid": -1}]}, "")
    with pytest.raises(Unfit, match=r"^workers\[0\]\.pid is missing$"):
        read({"workers": [{}]}, "")


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"{",
            b"nul",
            b"[1,]",
            b"01",
            b"1_0",
            b"NaN",
            b"[Infinity]",
            b"-Infinity",
            b"'a'",
            b"\xff",
            b"\xef\xbb\xbf1",
        ),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"1 2", b'"\x01"', b'"\\x"'),
    ],
)
def test_no_json(text: bytes) -> None:
    """What the standard does not know is none: no number that cannot be reckoned with comes in."""
    with pytest.raises(Unfit, match="not JSON"):
        checked.parse(text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("4194304", 4194304), ("4194305", None)])
def test_decimal(text: str, number: int | None) -> None:
    """ASCII digits alone, and no more than can be."""
    assert checked.decimal(text, 2**22) == number


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "-1", "1_0", "²", "١", "0x1", "1.0", "9" * 5000])
def test_no_decimal(text: str) -> None:
    """Nothing else that Python takes for a number, or for a digit."""
    assert checked.decimal(text, 2**22) is None


# ------------------------------------------------------------------------------------------------- what is shown

HIDDEN = {
    "escape": "\x1b[2J",
    "bell": "\x07",
    "control 1": "\x9b31m",
    "carriage return": "\r",
    "delete": "\x7f",
    "right to left": "\u202e",
    "isolate": "\u2066",
    "mark": "\u200f",
    "no width": "\u200b",
    "joiner": "\u200d",
    "byte order mark": "\ufeff",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "soft hyphen": "\u00ad",
    "no-break space": "\u00a0",
    "tag": "\U000e0041",
    "private": "\ue000",
    "unassigned": "\U0003ffff",
    "half a pair": "\ud800",
    "byte": "\udc9b",
    "filler": "\u3164",
    "braille blank": "\u2800",
    "combining joiner": "\u034f",
    "selector": "\U000e0100",
    "NUL": "\0",
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_printable(hidden: str) -> None:
    """A "?" stands for each that would move, turn or hide something, in lines and on one line."""
    assert printable(f"a{hidden}b") == f"a?{hidden[1:]}b"
    assert one_line(f"a{hidden}b") == f"a?{hidden[1:]}b"


def test_printable_text_stays() -> None:
    """Letters of all writings, emoji, and the ends of lines."""
    text = "ünï — 東京 עברית ไทย ✔\ufe0f\tx\n√"
    assert printable(text) == text
    assert one_line(" a\n b\tc  d ") == "a b c d"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"


# --------------------------------------------------------------------------------------------- names and files


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "/x", "a/b", "", "-x", "a b", "x\n", "ü", "$(x)", "x" * 129, "a;b"]
)
def test_names_of_nothing(name: str) -> None:
    """What could be more than one word, or lead somewhere else, is a name of nothing."""
    assert not locations.can_run(name) and not locations.is_name(name)
    assert locations.config_file(name) is None
    with pytest.raises(UsageError, match="cannot be called"):
        locations.run_directory(name)


@pytest.mark.parametrize("name", ["web", "web-2", "a_b.c", "app@1", r"my\x2dapp", "x:y"])
def test_names_of_what_runs(name: str) -> None:
    """Instances, and units with all that systemd allows in their names."""
    assert locations.can_run(name)
    assert locations.run_directory(name).endswith(f"/sdsupervise/{name}")


def test_read_regular(tmp_path: Path) -> None:
    """A file that is none, or longer than it may be, is not read; a FIFO is not even opened."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    assert read_regular(str(file), 100) == b"x" * 100
    with pytest.raises(NotReadable, match="more than 99 bytes"):
        read_regular(str(file), 99)
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero"), tmp_path / "nothing", "a\0b"):
        with pytest.raises(NotReadable):
            read_regular(str(path), 100)
    assert stat.S_ISFIFO(os.stat(tmp_path / "fifo").st_mode)


# ------------------------------------------------------------------------------------------------- the shapes


@pytest.mark.parametrize("method", answers.ANSWERS)
def test_answers_are_those_described(method: str) -> None:
    """What our commands read of an answer is what the description says that there is."""
    described = CONTROL.methods[method][1]
    assert isinstance(described, Struct)
    assert set(answers.ANSWERS[method].names) == set(described.fields)


def test_errors_are_those_described() -> None:
    """And of an error."""
    described = [error.fields for error in CONTROL.errors.values() if isinstance(error, Struct)]
    assert set(answers.FAILURE.names) == {name for fields in described for name in fields}


@pytest.mark.parametrize("fixture", HANDOVER_FIXTURES, ids=lambda path: path.stem)
def test_messages_of_an_older_release(fixture: Path) -> None:
    """Each message that was recorded is of a shape that we take, and nothing of it is left out."""
    said = json.loads(fixture.read_text())["said"]
    for say, message in said.items():
        assert SHAPES[say](message["fields"], "").keys() == message["fields"].keys(), say
