"""Unit files are read as systemd reads them."""

from __future__ import annotations

import math

import pytest

from sdsupervise.unitfiles import text, words

UNIT = text.parse(
    "x.service",
    """\
# /lib/systemd/system/x.service
[Unit]
Description=An = sign
[Service]
# ExecStart=/bin/false
; ExecStart=/bin/false
ExecStart=/bin/one \\
    # a comment between \\
    two\\
three
Environment="A=1 2" B=2
Environment=C=%i
WatchdogSec = 1min 30s
PrivateTmp=on
not an assignment

# /etc/systemd/system/x.service.d/a.conf
[Service]
# a comment that names a file: # /etc/passwd
ExecStartPre=/bin/first
ExecStartPre=
ExecStartPre=/bin/last
ReadWritePaths=/a "/b c"
ReadWritePaths=/d
TimeoutStopSec=nonsense
PathWithBackslash=a\\\\
Next=1
""",
)


def test_lines() -> None:
    """Comments are left out, also within a continued line; drop-ins add to, or take back, what came before."""
    assert UNIT.words("ExecStart") == ["/bin/one", "two", "three"]
    assert UNIT.value("Description", section="Unit") == "An = sign"
    assert UNIT.values("ExecStartPre") == ["/bin/last"]
    assert UNIT.words("ReadWritePaths") == ["/a", "/b c", "/d"]
    assert UNIT.environment == {"A": "1 2", "B": "2", "C": "%i"}
    assert UNIT.flag("PrivateTmp")
    assert UNIT.seconds("WatchdogSec", 0) == 90
    assert UNIT.seconds("TimeoutStopSec", 7) == 7
    assert (UNIT.value("PathWithBackslash"), UNIT.value("Next")) == ("a\\\\", "1")


def test_where_a_line_stands() -> None:
    """Each assignment is known by its file and line there."""
    places = {(a.key, a.value): (a.path, a.line) for a in UNIT.assignments}
    assert places["PrivateTmp", "on"] == ("/lib/systemd/system/x.service", 13)
    assert ("/lib/systemd/system/x.service", 6) in places.values()
    assert places["Environment", "C=%i"] == ("/lib/systemd/system/x.service", 11)
    assert places["ExecStartPre", "/bin/last"] == ("/etc/systemd/system/x.service.d/a.conf", 5)
    assert UNIT.without("/etc/systemd/system/x.service.d/a.conf").values("ReadWritePaths") == []


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("/bin/a b", [("", ["/bin/a", "b"])]),
        ("-@/bin/a argv0 b", [("-@", ["/bin/a", "argv0", "b"])]),
        ("""/bin/a "b c" 'd "e"' f'g h'i "" """, [("", ["/bin/a", "b c", 'd "e"', "fg hi", ""])]),
        (r"/bin/a \x20b c\ttab \"q\" \\ d\s", [("", ["/bin/a", " b", "c\ttab", '"q"', "\\", "d "])]),
        (r"/bin/a \; b ; /bin/c", [("", ["/bin/a", ";", "b"]), ("", ["/bin/c"])]),
        (r"/bin/a b; ';'", [("", ["/bin/a", "b;", ";"])]),
        (r"/bin/a \xc3\xa9 é \351 \u00e9", [("", ["/bin/a", "é", "é", "\udce9", "é"])]),
        ("/bin/sh -c 'echo $$X ${Y} %i'", [("", ["/bin/sh", "-c", "echo $$X ${Y} %i"])]),
    ],
)
def test_words(line: str, commands: list[tuple[str, list[str]]]) -> None:
    """A command line is split and unquoted; put together it is split into the same words again."""
    found = words.commands(line)
    assert [(command.prefixes, list(command.words)) for command in found] == commands
    for command in found:
        assert words.commands(words.joined(command.words)) == [words.Exec("", command.words)]


@pytest.mark.parametrize(
    ("span", "expected"),
    [("90", 90), ("1min 30s", 90), ("1h30m", 5400), ("100ms", 0.1), ("0", 0), ("infinity", math.inf), ("1.5 s", 1.5)],
)
def test_time_spans(span: str, expected: float) -> None:
    """Times are read as systemd.time(7) has them."""
    assert text.seconds(span) == expected


@pytest.mark.parametrize("span", ["", "soon", "5 parsecs", "5s!"])
def test_no_time_spans(span: str) -> None:
    """What is no time is told."""
    with pytest.raises(ValueError, match="is no time span"):
        text.seconds(span)
