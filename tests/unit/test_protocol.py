"""The link's lines and the control socket's messages, however the bytes arrive."""

from __future__ import annotations

import json
import random

import pytest

from sdsupervise.child import protocol
from sdsupervise.control import varlink
from sdsupervise.errors import ProtocolError

LINES = [protocol.PING, protocol.TAKEOVER, b"\n", b'failed "a\\nb"\n', b"x" * 70_000 + b"\n", protocol.SHUTDOWN]


def pieces(data: bytes, seed: int) -> list[bytes]:
    """The same bytes, cut anywhere."""
    chance, cut = random.Random(seed), []
    while data:
        size = chance.choice((1, 2, 5, 1000, 50_000))
        cut.append(data[:size])
        data = data[size:]
    return cut


@pytest.mark.parametrize("line", LINES)
def test_lines_cut_everywhere(line: bytes) -> None:
    """A line cut at any one place is one line, given when its end is there."""
    for place in range(1, min(len(line), 40)):
        reader = protocol.LineReader()
        assert reader.feed(line[:place]) == []
        assert reader.feed(line[place:]) == [line]


@pytest.mark.parametrize("seed", range(20))
def test_any_split_of_lines(seed: int) -> None:
    """Many lines in any pieces are the same lines in the same order."""
    lines = [line for line in LINES if len(line) < 1000] * 20
    reader = protocol.LineReader()
    assert [line for piece in pieces(b"".join(lines), seed) for line in reader.feed(piece)] == lines


@pytest.mark.parametrize("line", [b"one\x0btwo\x0cthree\x1c\x85four\xe2\x80\xa8\n", b"carriage\rreturn\n", b"dos\r\n"])
def test_only_newlines_end_lines(line: bytes) -> None:
    """Other characters that Python takes for the end of a line are part of it, however it arrives."""
    for place in range(len(line)):
        reader = protocol.LineReader()
        assert reader.feed(line[:place]) + reader.feed(line[place:]) == [line]


def test_line_without_an_end() -> None:
    """A line that grows too long is an error, once; what comes after it is read again."""
    reader = protocol.LineReader()
    assert reader.feed(b"x" * 40_000) == []
    with pytest.raises(ProtocolError, match="more than 65536 bytes"):
        reader.feed(b"x" * 40_000)
    assert reader.feed(b"\n" + protocol.PING) == [b"\n", protocol.PING]


def test_nothing_fed() -> None:
    """No bytes are no lines."""
    assert protocol.LineReader().feed(b"") == []


# ---------------------------------------------------------------------------------------------------------- varlink

MESSAGES: list[varlink.Object] = [
    {"method": "io.sdsupervise.Status"},
    {"parameters": {"text": "ünï\u2028code", "nested": [1, 2.5, None, True, {}]}},
    {},
    {"x": "y" * 100_000},
]


@pytest.mark.parametrize("seed", range(20))
def test_any_split_of_messages(seed: int) -> None:
    """Messages in any pieces are the same messages in the same order."""
    reader = varlink.MessageReader()
    data = b"".join(map(varlink.encode, MESSAGES))
    assert [message for piece in pieces(data, seed) for message in reader.feed(piece)] == MESSAGES


def test_encoding() -> None:
    """A message is one JSON object in UTF-8 with one NUL byte, at its end."""
    data = varlink.encode(MESSAGES[1])
    assert data.count(b"\0") == 1 and data.endswith(b"\0")
    assert json.loads(data[:-1].decode()) == MESSAGES[1]
    assert varlink.encode({"x": "a\0b"}).count(b"\0") == 1


@pytest.mark.parametrize(
    "text", [b"", b"nonsense", b"[]", b"1", b"null", b"{", b"\xff", b"[" * 100_000, b'{"a": 1} {}']
)
def test_no_message(text: bytes) -> None:
    """What is no JSON object is an error that quotes a little of it."""
    with pytest.raises(ProtocolError, match=r"not (a )?JSON") as raised:
        varlink.MessageReader().feed(text + b"\0")
    assert len(str(raised.value)) < 400


def test_message_without_an_end() -> None:
    """A message that grows too long is an error."""
    reader = varlink.MessageReader()
    assert reader.feed(b" " * 1_000_000) == []
    with pytest.raises(ProtocolError, match="more than 1048576 bytes"):
        reader.feed(b" " * 100_000)
