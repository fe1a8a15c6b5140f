"""Where things stand in a TOML text, and how values are written there."""

from __future__ import annotations

import datetime
import math
import random
import tomllib
from collections.abc import Iterator

import pytest

from sdsupervise.input.toml_text import Path, locate, shown, written, written_key

TEXT = '''\
# a comment = 1
service = "a#b.py:C"  # [ not a table
"odd \\u0041.key" . 'an"other'.x = 1
listen.http = "127.0.0.1:8000"
listen.admin.address = """
[no.table]
key = 1"""
command = [ # one
    "a", 'b]', """c "" """,
    [1, {z = 2, "]" = 3}, ],
]
when = 1979-05-27 07:32:00
empty = {}
far = { a = { b = [] }, c.d = true }
[table . "t t"]
x = \'\'\'it\'s # no comment\'\'\'
y = +1_000
[[many]]
name = "first"
[many.sub]
n = 1
[[many]]
name = "second"
[[many.sub]]
n = 2
[[many.sub]]
n = 3
[many.sub.deep]
'''


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Of all that is in a value."""
    children: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for key, child in children:
        yield (*path, key)
        yield from paths(child, (*path, key))


def at(path: Path) -> tuple[str, str]:
    """What stands where the key and the value are said to be, up to the end of the line."""
    place = locate(TEXT)[path]
    lines = TEXT.splitlines()
    return lines[place.key.line - 1][place.key.column - 1 :], lines[place.value.line - 1][place.value.column - 1 :]


def test_everything_is_found() -> None:
    """Each key and each element of an array that tomllib finds has a place, and nothing else has one."""
    assert set(locate(TEXT)) == set(paths(tomllib.loads(TEXT)))


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("service",), "service = ", '"a#b.py:C"'),
        (("odd A.key", 'an"other', "x"), "x = 1", "1"),
        (("listen",), "listen.http", "listen.http"),
        (("listen", "http"), "http = ", '"127.0.0.1:8000"'),
        (("listen", "admin", "address"), "address = ", '"""'),
        (("command", 1), "'b]'", "'b]'"),
        (("command", 3, 1, "]"), '"]" = 3', "3}"),
        (("when",), "when", "1979-05-27 07"),
        (("far", "c", "d"), "d = true", "true"),
        (("table", "t t"), '"t t"]', '"t t"]'),
        (("table", "t t", "y"), "y = ", "+1_000"),
        (("many", 1, "sub", 1, "n"), "n = 3", "3"),
    ],
)
def test_places(path: Path, key: str, value: str) -> None:
    """A key's place is where its own part of a dotted key begins, and a value's where it begins."""
    found_key, found_value = at(path)
    assert found_key.startswith(key) and found_value.startswith(value)


PIECES = (
    ("k{} = 1", "k{} = 'a = b'", 'k{} = "\\"# "', "k{}.a.b = [[], [1, 2], {{x.y = 1}}]", "k{} = 1979-05-27T07:32:00Z"),
    ("[t{}]", "[[m]]", "[m.n{}]", "[ 't{}' . \"u\" ] # c", "[t{}.u]"),
    ('k{} = """\n[x]\n\\"""" """', "k{} = '''\n''x'''", "k{} = [\n  1, # 2,\n\n  2,\n]", "# c", "", "  k{} = inf"),
)


def test_any_text() -> None:
    """In texts put together at random all that tomllib finds is found."""
    chance = random.Random(1)
    accepted = 0
    for _ in range(500):
        lines = [chance.choice(chance.choice(PIECES)).format(number) for number in range(chance.randrange(12))]
        text = "\n".join(lines)
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        accepted += 1
        assert set(locate(text)) == set(paths(values)), text
    assert accepted > 300


@pytest.mark.parametrize(
    "value",
    [
        *("", "plain", 'a "b" \\ c', "tab\tnewline\n\x00\x1f\x7f", "größe € \U0001f600"),
        *(0, -5, 2**70, 1.5, 60.0, 1e300, -0.25, math.inf, True, False),
        *([], ["a", [1]], {}, {"a": 1, "b c": {"d.e": [2]}}),
        *(datetime.date(1979, 5, 27), datetime.datetime(1979, 5, 27, 7, 32)),
    ],
)
def test_what_is_written_is_read(value: object) -> None:
    """A value as we write it is the same value for TOML, and on one line."""
    assert "\n" not in written(value)
    assert tomllib.loads(f"{written_key('a key')} = {written(value)}") == {"a key": value}


def test_what_is_shown_is_short() -> None:
    """A message has the beginning of a value, however large it is."""
    assert shown("x" * 100) == '"' + "x" * 56 + "..."
    assert shown(int("1" * 4000)).endswith("...") and shown(16**5000).startswith("0x1000")
