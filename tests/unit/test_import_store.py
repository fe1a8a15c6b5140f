"""Files of an import are written at once, again only where they change, and never over what somebody has edited."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sdsupervise.cli import commands
from sdsupervise.errors import CannotImport
from sdsupervise.imports import store
from sdsupervise.imports.texts import WantedFile

WANTED = WantedFile("/etc/sdsupervise/web.env", 'A="1"\n', "/srv/web.conf", "web", 0o600)
NAME = "etc/sdsupervise/web.env"


def states(root: Path, *wanted: WantedFile) -> list[str]:
    """What a write would do."""
    return [file.state for file in store.compared(wanted, str(root))]


def write(root: Path, *wanted: WantedFile) -> None:
    store.write(store.compared(wanted, str(root)))


def test_a_file(tmp_path: Path) -> None:
    """It is new, then unchanged, then changed, then removed; its mode does not depend on the umask."""
    assert states(tmp_path, WANTED) == ["new"]
    umask = os.umask(0o077)
    try:
        write(tmp_path, WANTED, WANTED._replace(path="/etc/sdsupervise/web.toml", mode=0o644))
    finally:
        os.umask(umask)
    modes = [stat.S_IMODE((tmp_path / f"etc/sdsupervise/web{suffix}").stat().st_mode) for suffix in (".env", ".toml")]
    assert modes == [0o600, 0o644]
    first, text = (tmp_path / NAME).read_text().split("\n", 1)
    assert text == WANTED.text and first.startswith("# Written by sdsupervise import, from /srv/web.conf; checksum ")
    assert states(tmp_path, WANTED) == ["unchanged"]
    assert states(tmp_path, WANTED._replace(text="B=2\n")) == ["changed"]
    gone = WANTED._replace(text="")
    assert states(tmp_path, gone) == ["removed"]
    write(tmp_path, gone)
    assert not (tmp_path / NAME).exists() and states(tmp_path, gone) == []


def edited(path: Path) -> None:
    """As an operator has changed it since."""
    write(path.parents[2], WANTED)
    path.write_text(f"{path.read_text()}B=2\n")


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda path: path.write_text("A=1\n"), r"sdsupervise import did not write /.*; move it away first\."),
        (edited, "was edited since its import, and stays"),
        (lambda path: write(path.parents[2], WANTED._replace(source="/x")), "was imported from /x; remove it first"),
        (lambda path: path.symlink_to("nowhere"), "is not a regular file"),
    ],
)
def test_files_of_others(tmp_path: Path, prepare: Callable[[Path], object], sentence: str) -> None:
    """What is not an import's, is edited, or comes from elsewhere, stays, and nothing at all is written."""
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    prepare(path)
    with pytest.raises(CannotImport, match=sentence):
        write(tmp_path, WantedFile("/etc/other.toml", "x = 1\n", "/srv/web.conf"), WANTED._replace(text="C=3\n"))
    assert not (tmp_path / "etc/other.toml").exists()


def test_a_file_of_others_in_place_of_none(tmp_path: Path) -> None:
    """Where an import needs no file, another one is not in the way."""
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_text("A=1\n")
    assert states(tmp_path, WANTED._replace(text="")) == []


CONF = (
    "[program:web]\ncommand=/bin/sleep 1000\nautorestart=true\nuser=nobody\n[program:once]\ncommand=x\nautorestart=no\n"
)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints first, then writes and checks; a second time nothing changes. What it refuses is its exit status."""
    file, root = tmp_path / "s.conf", tmp_path / "root"
    file.write_text(CONF)
    given = ["import", "supervisord", str(file), "--root", str(root)]
    assert commands.main(given) == 78
    shown = capsys.readouterr()
    assert shown.out.startswith(f"# {root}/etc/sdsupervise/web.toml\n# Written by sdsupervise import, from {file}; ")
    assert "not imported: [program:once]: " in shown.err and "Nothing is written yet" in shown.err
    assert not root.exists()
    root.mkdir()
    assert commands.main([*given, "--write"]) == 78
    shown = capsys.readouterr()
    drop_in = f"{root}/etc/systemd/system/sdsupervise@web.service.d/import.conf"
    assert shown.out == f"wrote {root}/etc/sdsupervise/web.toml\nwrote {drop_in}\nweb: ok\n"
    file.write_text(CONF.partition("[program:once]")[0])
    assert commands.main([*given, "--write"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"unchanged: {root}/etc/sdsupervise/web.toml\nunchanged: {drop_in}\nweb: ok\n"
    assert "No file needs a change." in shown.err
    file.write_text(CONF.partition("user=")[0])
    assert commands.main([*given, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in facts["files"]] == ["changed", "removed"]
    assert (facts["written"], facts["checked"], facts["remains"]) == (False, [], [])


def test_what_check_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that is not there is written, and the check says so."""
    file = tmp_path / "Procfile"
    file.write_text("web: nothing-like-this\n")
    words = ["import", "procfile", str(file), "--root", str(tmp_path), "--user", "nobody", "--prefix", "x-", "--write"]
    assert commands.main(words) == 78
    shown = capsys.readouterr()
    assert (
        f"{tmp_path}/etc/sdsupervise/x-web.toml:" in shown.err and "There is no program nothing-like-this" in shown.err
    )


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["supervisord", "/none.conf"], 78, "Cannot read /none.conf: No such file or directory."),
        (["supervisord", "/none.conf", "--env", "X"], 64, "--env X: write NAME=VALUE."),
        (["procfile", "/none"], 78, "Cannot read /none: No such file or directory."),
    ],
)
def test_wrong_words(words: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, and an exit status as always."""
    assert commands.main(["import", *words]) == status
    assert sentence in capsys.readouterr().err
