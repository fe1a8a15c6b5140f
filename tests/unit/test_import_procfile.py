"""What a Procfile becomes: by its text alone, without a machine."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sdsupervise.errors import BadFile, CannotImport
from sdsupervise.imports import procfile, shell_words, texts
from sdsupervise.imports.imported import FoundPrograms

VARIABLES = {"PORT": "5000", "A": "x y", "EMPTY": "", "B": "b"}


def found(directory: Path, text: str, env: str | None = None, user: str = "nobody", prefix: str = "") -> FoundPrograms:
    """What a Procfile becomes, with this .env beside it."""
    (directory / "Procfile").write_text(text)
    if env is not None:
        (directory / ".env").write_text(env)
    return procfile.found(str(directory / "Procfile"), user=user, prefix=prefix)


def files(of: FoundPrograms) -> dict[str, str]:
    """The files by their names."""
    return {os.path.basename(file.path): file.text for each in of.instances for file in texts.files_of(each)}


def toml(of: FoundPrograms, name: str) -> dict[str, Any]:
    return tomllib.loads(files(of)[f"{name}.toml"])


def notes(of: FoundPrograms) -> str:
    return "\n".join([*of.notes, *texts.notes_of(of.instances)])


def test_a_usual_procfile(tmp_path: Path) -> None:
    """A web server, a worker and a release phase, with a file of variables."""
    done = found(
        tmp_path,
        "release: python manage.py migrate\n# comment\nweb: gunicorn shop.wsgi --bind 0.0.0.0:$PORT --log-file -\n"
        "worker: venv/bin/queue --level info\n",
        "STAGE=prod\nexport TOKEN='a $b'\nLINES=\"one\\ntwo\"\n",
    )
    assert toml(done, "web") == {
        "command": ["gunicorn", "--preload", "shop.wsgi", "--log-file", "-"],
        "directory": str(tmp_path),
        "user": "nobody",
        "listen": {"http": "0.0.0.0:5100"},
        "handover": "overlap",
        "stop_timeout": 40,
    }
    worker = {"command": ["venv/bin/queue", "--level", "info"], "directory": str(tmp_path), "user": "nobody"}
    assert toml(done, "worker") == {**worker, "ready_after": 3}
    assert files(done)["worker.env"] == 'STAGE="prod"\nTOKEN="a \\$b"\nLINES="one\ntwo"\nPORT="5200"\n'
    said = notes(done)
    assert "Procfile:1: release is not imported: run 'python manage.py migrate' in your deployment" in said
    assert "web: $PORT is 5100: 100 more for each process type" in said
    assert ".env: its variables are copied" in said
    assert [each.name for each in done.instances] == ["web", "worker"]


@pytest.mark.parametrize(
    ("command", "key", "value"),
    [
        (
            "uvicorn app:app --host 0.0.0.0 --port ${PORT:-8000}",
            "listen",
            {"http": {"address": "0.0.0.0:5000", "lanes": True}},
        ),
        ("gunicorn app:app", "listen", {"http": "0.0.0.0:5000"}),
        ("WEB_CONCURRENCY=2 uvicorn app:app", "workers", 2),
        ("node server.js", "listen", None),
        ("cd src && exec node server.js", "directory", "HERE/src"),
        ("exec run '{a}'", "command", ["run", "{{a}}"]),
        (
            "python manage.py migrate && gunicorn app",
            "command",
            ["/bin/sh", "-c", "python manage.py migrate && gunicorn app"],
        ),
        ("run | tee log", "kill_mode", "group"),
        ("run $UNKNOWN", "command", ["/bin/sh", "-c", "run $UNKNOWN"]),
        ("run", "kill_mode", None),
        ("cd a && " * 21 + "run", "directory", "HERE" + "/a" * 20),
        ("cd a && " * 21 + "run", "command", ["/bin/sh", "-c", "cd a && run"]),
        ("A=1 B=2 run C=3", "command", ["run", "C=3"]),
    ],
)
def test_one_command(tmp_path: Path, command: str, key: str, value: object) -> None:
    """What a command becomes; None: the key is not there."""
    found_value = toml(found(tmp_path, f"web: {command}\n"), "web").get(key)
    here = str(tmp_path)
    assert (found_value.replace(here, "HERE") if isinstance(found_value, str) else found_value) == value


def test_a_port_of_its_own(tmp_path: Path) -> None:
    """A program that opens $PORT itself is said to have a gap; PORT in .env is where the count begins."""
    done = found(tmp_path, "web: node server.js\nother: run\nlast: thin -p $PORT\n", "PORT=8000\n")
    said = notes(done)
    assert "web: it opens port 8000 itself, so nobody listens while a reload" in said
    assert "last: it opens port 8200 itself" in said and "other: it opens" not in said
    assert 'PORT="8100"' in files(done)["other.env"]


def test_who_it_runs_as(tmp_path: Path) -> None:
    """Without --user, its owner; root never runs what somebody else may write."""
    done = found(tmp_path, "web: run\n", user="root")
    assert "user" not in toml(done, "web")
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(tmp_path / "Procfile", 65534, 65534)
    done = procfile.found(str(tmp_path / "Procfile"))
    assert toml(done, "web")["user"] == "nobody"
    assert "its processes run as nobody, who owns it" in notes(done)
    os.chown(tmp_path / "Procfile", 0, 0)
    (tmp_path / "Procfile").chmod(0o666)
    with pytest.raises(CannotImport, match=r"root owns it, so root would run it, and everybody may write .*--user"):
        procfile.found(str(tmp_path / "Procfile"))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def owned(directory: Path, text: str, env: str = "", uid: int = 65534, uid_of_env: int | None = None) -> str:
    """A Procfile and an .env of this user."""
    for name, content, owner in ("Procfile", text, uid), (".env", env, uid if uid_of_env is None else uid_of_env):
        (directory / name).write_text(content)
        os.chown(directory / name, owner, owner)
    return str(directory / "Procfile")


@needs_root
def test_its_owner_becomes_nobody_else(tmp_path: Path) -> None:
    """The unit of an owner's program never starts as root, and no socket's file is given to another user."""
    text = "web: gunicorn --user root --group root --bind unix:/run/victim.sock -m 0117 app:app\n"
    done = procfile.found(owned(tmp_path, text, "HOME=/home/nobody\nGCONV_PATH=/home/nobody\n"))
    assert "User=nobody\n" in files(done)["import.conf"]
    (entry,) = toml(done, "web")["listen"].values()
    assert not {"user", "group"} & set(entry)


@needs_root
def test_variables_of_other_users(tmp_path: Path) -> None:
    """Root reads no .env for the owner of a Procfile that this owner may not read."""
    file = owned(tmp_path, "web: run\n", "A=1\n", uid_of_env=1)
    with pytest.raises(BadFile, match="uid 1 owns it, but uid 65534 owns the Procfile; give both to one user"):
        procfile.found(file)
    (tmp_path / ".env").unlink()
    (tmp_path / "secret").write_text("SECRET=x\n")
    (tmp_path / ".env").symlink_to("secret")
    with pytest.raises(BadFile, match=r"\.env: it is not a regular file"):
        procfile.found(file)


@needs_root
def test_a_procfile_that_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text runs as the owner of the file that was read, whatever has its name a moment later."""
    file = owned(tmp_path, "web: evil\n")
    read = procfile._environment

    def replaces(path: str, directory: int, owner: int, said: list[str]) -> dict[str, str]:
        os.unlink(file)
        os.symlink("/etc/hostname", file)
        return read(path, directory, owner, said)

    monkeypatch.setattr(procfile, "_environment", replaces)
    assert toml(procfile.found(file), "web")["user"] == "nobody"


@needs_root
def test_a_port_below_1024(tmp_path: Path) -> None:
    """Its owner gets no port that only root may open, unless root names the user."""
    file = owned(tmp_path, "web: gunicorn --bind 0.0.0.0:22 app:app\n")
    done = procfile.found(file)
    assert not done.instances
    assert "only root may open port 22; to allow that, name the user with --user" in done.refused[0]
    assert procfile.found(file, user="nobody").instances


def test_variables_that_a_supervisor_obeys(tmp_path: Path) -> None:
    """They are the command's alone."""
    obeyed = "NOTIFY_SOCKET=/x\nLISTEN_FDS=3\nWATCHDOG_USEC=1\nSDSUPERVISE_A=1\nLD_PRELOAD=/x\n"
    done = found(tmp_path, "web: run\n", obeyed + "A=1\n")
    assert files(done)["web.env"] == 'A="1"\nPORT="5000"\n'
    words = toml(done, "web")["command"]
    assert words == ["/usr/bin/env", *obeyed.split(), "run"]


@pytest.mark.parametrize("letter", ["\n", "\r", "\x1b"])
def test_a_name_with_a_control_character(tmp_path: Path, letter: str) -> None:
    """It would be lines of a unit, or words to a terminal."""
    place = tmp_path / f"a{letter}[Service]{letter}ExecStartPre=+evil"
    place.mkdir()
    with pytest.raises(BadFile, match="its name has a character that cannot be printed; rename it"):
        found(place, "web: run\n")


@pytest.mark.parametrize(
    ("text", "env", "sentence"),
    [
        ("web run\n", "", "Procfile:1: 'web run' is not TYPE: COMMAND."),
        ("web: a\nweb: b\n", "", "Procfile:2: web is there already, in "),
        ("# nothing\n", "", "Procfile:1: there is no TYPE: COMMAND."),
        ("web: a\n", "A=1\nB\n", ".env:2: this line is not KEY=VALUE."),
        (
            "web: a\n",
            "".join(f"A{number}=\n" for number in range(1001)),
            ".env:1001: these are more than 1000 variables.",
        ),
        ("web: a\n", "PORT=0\n", ".env: PORT must be a number from 1 to 65535."),
        ("".join(f"t{number}: a\n" for number in range(502)), "", "these are more than 500 process types."),
    ],
)
def test_mistakes(tmp_path: Path, text: str, env: str, sentence: str) -> None:
    """Each is one sentence, with its place."""
    with pytest.raises(BadFile) as raised:
        found(tmp_path, text, env)
    assert sentence in raised.value.mistakes[0]


@pytest.mark.parametrize(
    ("text", "env", "sentence"),
    [
        ("web: run 'a\n", "", "web: {}:1: no shell can read this command: a quotation mark is not closed."),
        ("web: a\nworker: b\n", "PORT=65500\n", "worker: {}:2: $PORT would be 65600; set a lower PORT in .env."),
        ('web: run "' + "$A" * 200 + '"\n', "A=" + "x" * 1000, "this command becomes too long; shorten it."),
        ("-: a\n", "", "an instance cannot be called ''"),
    ],
)
def test_refused(tmp_path: Path, text: str, env: str, sentence: str) -> None:
    """A process type that cannot become an instance."""
    (refused,) = found(tmp_path, text, env).refused
    assert sentence.format(tmp_path / "Procfile") in refused


SIMPLE = (
    *(
        "run a  b",
        "run 'a b' \"c d\"",
        "run a\\ b",
        'run "a\\"b" "\\x"',
        "run $PORT ${PORT}x \"$A\" '$A'",
        "run a'b'\"c\"",
    ),
    *("run ${NONE:-1.2} ${EMPTY:-x} ${EMPTY-y} ${B:-z}", 'run $EMPTY "$EMPTY" $EMPTY.x', "run a=b ''", "run 5$ a$/b $"),
    *("run a#b a~b", "run \"a|b\" 'c;d'", "run ]} x"),
)
NEED_A_SHELL = (
    *("a | b", "a; b", "a && b", "a &", "a > b", "a < b", "a (b)", "a `b`", "a $(b)", "a *", "a [b]", "a ?", "a {b,c}"),
    *(
        "a ~",
        "a ~/x",
        "a # b",
        "! a",
        "a $1",
        "a $?",
        "a $$",
        "a ${X#y}",
        "a ${X:-$Y}",
        "a $NONE",
        "a $A",
        'a "`b`"',
        "cd x",
    ),
    *("source x", ". x", "export A=1", "", "a\nb"),
)


@pytest.mark.parametrize("text", SIMPLE)
def test_words_are_a_shell_s(text: str) -> None:
    """A text that needs no shell is split as a shell splits it."""
    script = 'run() { for word; do printf "%s\\n" "$word"; done; }; ' + text
    done = subprocess.run(["/bin/sh", "-c", script], env=VARIABLES, capture_output=True, text=True, check=True)
    assert shell_words.split(text, VARIABLES) == ["run", *done.stdout.split("\n")[:-1]]


@pytest.mark.parametrize("text", NEED_A_SHELL)
def test_what_needs_a_shell(text: str) -> None:
    """Whatever a shell does beyond splitting, and a variable that is not known here."""
    assert shell_words.split(text, VARIABLES) is None


@pytest.mark.parametrize("text", ["a 'b", 'a "b', "a \\", 'a "b\\'])
def test_what_no_shell_reads(text: str) -> None:
    """An open quotation mark, or a backslash at the end."""
    with pytest.raises(ValueError):
        shell_words.split(text, VARIABLES)
