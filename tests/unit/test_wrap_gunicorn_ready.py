"""What `unit wrap`, `unit lint` and `check` make of gunicorn_ready.py, the configuration file of ours for gunicorn."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sdsupervise.checks import program_check
from sdsupervise.settings.settings import Settings
from sdsupervise.unitfiles import gunicorn_file, named_files, text
from sdsupervise.unitfiles.drop_in import DropIn
from sdsupervise.unitfiles.lint import lint
from sdsupervise.unitfiles.paths import SYSTEM
from sdsupervise.unitfiles.wrap import wrap

NOTE = (
    "gunicorn reports that it is ready when all its workers serve, not before it starts them; the file loads your own "
    "configuration file and calls your hooks"
)
Wrapped = Callable[..., DropIn]


@pytest.fixture
def ours(tmp_path: Path) -> str:
    """The file, where the machine has it."""
    path = tmp_path / "share" / "gunicorn_ready.py"
    path.parent.mkdir()
    path.touch()
    return str(path)


@pytest.fixture
def wrapped(ours: str) -> Wrapped:
    """The drop-in for a unit with this command and these lines; lint finds nothing in the result."""

    def make(command: str, *lines: str, given: Sequence[str] = (), listen: Sequence[str] = ()) -> DropIn:
        unit = ["[Service]", f"ExecStart={command}", *lines]
        how = SYSTEM._replace(gunicorn_file=ours)
        drop_in = wrap(text.parse("app.service", "\n".join(unit)), given=given, listen=listen, own=how)
        merged = text.parse("app.service", "\n".join([*unit, drop_in.file]))
        assert [*lint(merged), *named_files.of_unit(merged)] == []
        return drop_in

    return make


def command(drop_in: DropIn) -> str:
    """What the supervisor runs."""
    return next(line for line in drop_in.settings if line.startswith("ExecStart=/")).partition(" -- ")[2]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("gunicorn a", "gunicorn a --config {}"),
        ("gunicorn --preload a", "gunicorn --preload a --config {}"),
        ("gunicorn --config yours.py a", "gunicorn --config yours.py a --config {}"),
        ("gunicorn -cyours.py -w 4 a", "gunicorn -cyours.py -w 4 a --config {}"),
        ("gunicorn a -c python:yours", "gunicorn a -c python:yours --config {}"),
        ("gunicorn -c yours.py --chdir x a", "gunicorn --config /srv/app/yours.py a --config {}"),
        ("gunicorn $OPTIONS a", "gunicorn $OPTIONS a --config {}"),
        ("gunicorn -- a", "gunicorn --config {} -- a"),
        ("/srv/venv/bin/python -m gunicorn a", "/srv/venv/bin/python -m gunicorn a --config {}"),
        ("poetry run gunicorn a", "poetry run gunicorn a --config {}"),
        ("sh -c 'exec gunicorn a'", "gunicorn a --config {}"),
        # It is there already.
        ("gunicorn -c yours.py -c {} a", "gunicorn -c yours.py -c {} a"),
        ("gunicorn --config=file:{} a", "gunicorn --config=file:{} a"),
        ("gunicorn -c yours.py -c {} --chdir x a", "gunicorn --config /srv/app/yours.py a --config {}"),
        # It is there without effect.
        ("gunicorn -c {} -c yours.py a", "gunicorn -c {} -c yours.py a --config {}"),
    ],
)
def test_it_is_the_last_file(wrapped: Wrapped, ours: str, before: str, after: str) -> None:
    """gunicorn reads the last file that is named, and this one loads the file before it."""
    drop_in = wrapped(before.format(ours), "WorkingDirectory=/srv/app", listen=["http=127.0.0.1:1"])
    assert command(drop_in) == after.format(ours, ours)
    assert "--preload added" not in drop_in.file
    is_added = f"--config {after}".count("--config {}") > f"--config {before}".count("--config {}")
    if "--chdir" not in before:
        assert any(note.startswith(f"--config {ours} added: {NOTE}") for note in drop_in.notes) == is_added


def test_behind_uv(wrapped: Wrapped) -> None:
    """`uv run` stays the parent of gunicorn, so the command stays as it is."""
    assert command(wrapped("uv run gunicorn a")) == "uv run gunicorn a"


def test_variable(wrapped: Wrapped, ours: str) -> None:
    """The file of $GUNICORN_CMD_ARGS is loaded by ours, so what it sets counts."""
    told = wrapped("gunicorn a", "Environment=GUNICORN_CMD_ARGS=--bind=127.0.0.1:7", "WorkingDirectory=/srv/app")
    assert command(told) == f"gunicorn a --config {ours}" and "http=127.0.0.1:7" in told.file
    told = wrapped("gunicorn a", f"Environment=GUNICORN_CMD_ARGS=--config={ours}")
    assert command(told) == "gunicorn a"
    told = wrapped("gunicorn -c yours.py a", f"Environment=GUNICORN_CMD_ARGS=--config={ours}", listen=["http=[::1]:1"])
    assert command(told) == f"gunicorn -c yours.py a --config {ours}"


@pytest.mark.parametrize("way", ["gunicorn.conf.py", "--config", "$GUNICORN_CMD_ARGS", "ours"])
def test_your_settings_count(wrapped: Wrapped, ours: str, tmp_path: Path, way: str) -> None:
    """Whichever way gunicorn finds your file, its settings are read, and never those of ours."""
    Path(ours).write_text("bind = '127.0.0.1:9'\n")
    place = tmp_path / ("yours.py" if way != "gunicorn.conf.py" else way)
    place.write_text("bind = '127.0.0.1:7'\ngraceful_timeout = 120\npreload_app = True\n")
    words = {"--config": "-c yours.py ", "ours": f"-c yours.py -c {ours} "}.get(way, "")
    variable = "Environment=GUNICORN_CMD_ARGS=" + ("-cyours.py" if way.startswith("$") else "")
    drop_in = wrapped(f"gunicorn {words}a", variable, f"WorkingDirectory={tmp_path}")
    assert "--listen http=127.0.0.1:7 --stop-timeout 130 " in drop_in.file
    assert command(drop_in).startswith(f"gunicorn {words}a")


def test_your_default_file_before_chdir(wrapped: Wrapped, ours: str, tmp_path: Path) -> None:
    """gunicorn looks for it where it starts, before --chdir; the supervisor starts it elsewhere, so it is named."""
    place = tmp_path / "gunicorn.conf.py"
    place.touch()
    drop_in = wrapped("gunicorn --chdir site a", f"WorkingDirectory={tmp_path}")
    assert command(drop_in) == f"gunicorn --config {place} a --config {ours}"


def test_your_file_in_a_variable(wrapped: Wrapped, ours: str) -> None:
    """A path in a variable stays one, if it is absolute; a relative one is written out if gunicorn starts elsewhere."""
    where = "WorkingDirectory=/srv/app"
    for value, expected in (("/etc/x.py", "${CONF}"), ("x.py", "/srv/app/${CONF}")):
        told = wrapped(
            "gunicorn --chdir x -c ${CONF} a", where, f"Environment=CONF={value}", listen=["http=127.0.0.1:1"]
        )
        assert expected in command(told) and command(told).endswith(f" a --config {ours}")


@pytest.mark.parametrize(
    ("version", "is_named"), [("20.0.4", False), ("20.1.0", True), ("27.0.1", True)], ids=lambda value: str(value)
)
def test_versions(wrapped: Wrapped, ours: str, tmp_path: Path, version: str, is_named: bool) -> None:
    """gunicorn before 20.1 does not work with it. Where the version is not visible, a note says so."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gunicorn").touch()
    (tmp_path / "lib" / "python3.11" / "site-packages" / f"gunicorn-{version}.dist-info").mkdir(parents=True)
    drop_in = wrapped(f"{tmp_path}/bin/gunicorn a")
    assert (f"--config {ours}" in command(drop_in)) == is_named == ("--preload" not in command(drop_in))
    assert "it needs gunicorn 20.1 or later" not in drop_in.file
    assert "it needs gunicorn 20.1 or later, and the version is not visible here" in wrapped("/srv/x/gunicorn a").file


@pytest.mark.parametrize("line", ["InaccessiblePaths={}", "TemporaryFileSystem={}", "BindPaths=/srv:{}"])
def test_hidden(wrapped: Wrapped, ours: str, line: str) -> None:
    """A service that does not see the file gets --preload."""
    assert "gunicorn --preload" in command(wrapped("gunicorn a", line.format(os.path.dirname(ours))))
    shown = wrapped("gunicorn a", line.format("/nowhere"))
    assert command(shown) == f"gunicorn a --config {ours}"


def test_installed(tmp_path: Path) -> None:
    """A file counts that exists, and that only root may write."""
    assert gunicorn_file.installed(str(tmp_path / "gunicorn_ready.py")) == ""
    assert gunicorn_file.installed("/tmp") == ""
    assert gunicorn_file.installed("/etc/passwd") == "/etc/passwd"
    path = tmp_path / "of-all"
    path.touch()
    path.chmod(0o666)
    assert gunicorn_file.installed(str(path)) == ""


def wrapped_unit(words: str) -> text.UnitText:
    """A wrapped gunicorn with these words, on a machine without the file."""
    unit = f"[Service]\nExecStart=gunicorn {words} a\nWorkingDirectory=/nowhere\n"
    drop_in = wrap(text.parse("app.service", unit), listen=["http=127.0.0.1:1"])
    return text.parse("app.service", unit + drop_in.file)


def test_lint_another_file_follows(ours: str) -> None:
    """Then gunicorn does not read ours."""
    (found,) = lint(wrapped_unit(f"--config {ours} -c yours.py"))
    assert (found.key, found.severity) == ("ExecStart", "warning")
    assert f"--config yours.py follows --config {ours}, and gunicorn reads only the last one" in found.problem
    assert found.fix == f"name {ours} last; it loads yours.py"
    assert lint(wrapped_unit(f"-c yours.py --config {ours}")) == []


@pytest.mark.parametrize("path", ["/nowhere/gunicorn_ready.py", "gunicorn_ready.py", "file:/nowhere/gunicorn_ready.py"])
def test_lint_it_is_gone(ours: str, path: str) -> None:
    """Then gunicorn does not start. A file of yours may be anywhere."""
    (found,) = named_files.of_unit(wrapped_unit(f"--config {path}"))
    assert (found.key, found.severity) == ("ExecStart", "error")
    assert found.problem == "/nowhere/gunicorn_ready.py does not exist, and gunicorn does not start without it"
    for other in ("--config yours.py", f"--config {ours}", f"--config {path} -c yours.py", "-c $DIR/gunicorn_ready.py"):
        assert list(named_files.of_unit(wrapped_unit(other))) == []
    assert list(named_files.of_unit(text.parse("a.service", "[Service]\nExecStart=gunicorn a\n"))) == []


def test_check_of_an_instance(ours: str) -> None:
    """`sdsupervise check` says the same of a command in an instance's file."""

    def mistakes(*words: str) -> list[bool]:
        found = program_check.of_program(["/usr/bin/env", "gunicorn", *words], Settings(ready_after=1))
        return [said.is_mistake for said in found if "gunicorn_ready.py" in said.sentence]

    assert mistakes("-c", "yours.py", "-c", ours) == []
    assert mistakes("-c", ours, "-c", "yours.py") == [False]
    assert mistakes("-c", "/nowhere/gunicorn_ready.py") == [True]
