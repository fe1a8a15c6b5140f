"""supervisord's INI files are read as supervisord reads them, and each value has its line."""

from __future__ import annotations

import configparser
import random
from pathlib import Path

import pytest

from sdsupervise.errors import BadFile
from sdsupervise.imports.ini import MOST_BYTES, Ini, text_of

SMALL = """\
; a comment
[program:web]
Command = bin/web --port 80   ; cut here
  --more
; a comment within
  --yet=more

directory: /srv/web

[DEFAULT]
user=www
[program:web]
directory=/srv/other
"""


def as_python(text: str) -> dict[str, dict[str, str]]:
    """As supervisord's own parser has it."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(text)
    return {name: dict(parser.items(name)) for name in parser.sections()}


def as_ours(text: str) -> dict[str, dict[str, str]]:
    ini = Ini()
    ini.add("file", text)
    found = {}
    for name, section in ini.sections.items():
        values = ((key, ini.get(section, key)) for key in {**ini.defaults, **section.values})
        found[name] = {key: value.text for key, value in values if value is not None}
    return found


def test_places() -> None:
    """A value knows its line, and whether a comment was cut from it; a section that comes again is joined."""
    ini = Ini()
    ini.add("file", SMALL)
    section = ini.sections["program:web"]
    command, directory, user = (ini.get(section, key) for key in ("command", "directory", "user"))
    assert command is not None and (command.where, command.cut) == ("file:3", True)
    assert command.text == "bin/web --port 80\n--more\n--yet=more"
    assert directory is not None and (directory.text, directory.where) == ("/srv/other", "file:13")
    assert user is not None and (user.text, user.cut) == ("www", False)
    assert (section.where, ini.twice) == ("file:2", [("program:web", "file:12")])


def test_it_reads_as_python_does() -> None:
    """Whatever lines stand in a file, they mean what they mean to supervisord's own parser."""
    assert as_ours(SMALL) == as_python(SMALL)
    lines = (
        *("[program:a]", "[program:b]", "[DEFAULT]", "  [x]", "key=value", "Key : value", "other = a=b:c", "k=a;b"),
        *("  more", "\tmore # cut", "", "   ", "; comment", "  # comment", "empty=", "a b = c", "k = 'x ; y'"),
        *(" indented=1", "k=a ;b"),
    )
    chance = random.Random(7)
    for _ in range(2000):
        text = "\n".join(["[s]", *chance.choices(lines, k=chance.randint(1, 12))])
        try:
            expected = as_python(text)
        except configparser.Error:
            with pytest.raises(BadFile):
                as_ours(text)
        else:
            assert as_ours(text) == expected, text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("command=x\n", "file:1: 'command=x' stands before the first [section]."),
        ("[a]\nk=v\n\nword\n", "file:4: 'word' is neither [section] nor KEY=VALUE."),
        ("[a]\n" + "x" * 65_537, "file:2: this line is longer than 65536 letters; shorten it."),
        ("[a]\n" * 5001, "file:5001: these are more than 5000 sections; import fewer at a time."),
        ("[a]\n" + "k=v\n" * 20_001, "file:20002: these are more than 20000 options; import fewer at a time."),
        ("[a]\n=v\n", "file:2: '=v' is neither [section] nor KEY=VALUE."),
    ],
)
def test_mistakes(text: str, sentence: str) -> None:
    """Each has its line."""
    with pytest.raises(BadFile) as raised:
        Ini().add("file", text)
    assert raised.value.mistakes == [sentence]


def test_mistakes_are_bounded() -> None:
    """A file that is no INI file at all gets a few sentences, not thousands."""
    with pytest.raises(BadFile) as raised:
        Ini().add("file", "word\n" * 100_000)
    assert len(raised.value.mistakes) == 20


def test_all_files_are_bounded() -> None:
    """The sections, options and letters of several files count together."""
    for text, count, sentence in (
        ("[a]\n" * 2000, 2, "file:1001: these are more than 5000 sections; import fewer at a time."),
        ("[a]\n" + "k=v\n" * 9000, 2, "file:2002: these are more than 20000 options; import fewer at a time."),
        (
            ("#" * 65_535 + "\n") * 16,
            16,
            "file: with this file, these are more than 16 MiB; import fewer files at a time.",
        ),
    ):
        ini = Ini()
        for _ in range(count):
            ini.add("file", text)
        with pytest.raises(BadFile) as raised:
            ini.add("file", text)
        assert raised.value.mistakes == [sentence]


def test_a_value_of_many_lines() -> None:
    """Its lines are put together once, with the empty ones between them."""
    ini = Ini()
    ini.add("file", "[a]\nk=" + "\n x" * 200_000 + " ; cut\n\nother=1\n")
    value = ini.sections["a"].values["k"]
    assert (value.text, value.cut) == ("\nx" * 200_000 + "\n", True)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """What is missing, too long, no file or no text is one sentence."""
    (tmp_path / "latin").write_bytes(b"[a]\n\xe4=1\n")
    (tmp_path / "long").write_bytes(b"#" * (MOST_BYTES + 1))
    for name, sentence in (
        ("latin", f"{tmp_path}/latin:2: This line is not in UTF-8."),
        ("long", f"Cannot read {tmp_path}/long: it has more than {MOST_BYTES} bytes."),
        ("", f"Cannot read {tmp_path}/: it is not a regular file."),
        ("none", f"Cannot read {tmp_path}/none: No such file or directory."),
    ):
        with pytest.raises(BadFile) as raised:
            text_of(f"{tmp_path}/{name}")
        assert raised.value.mistakes == [sentence]
