"""Completion in packaging/completion: up to date, and good in a real shell."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.docs import completion

LIMIT_SECONDS = 30.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a user who has an instance that runs and one that is configured."""
    (tmp_path / "run/sdsupervise/webshop").mkdir(parents=True)
    (tmp_path / "run/sdsupervise/webshop/control").touch()
    (tmp_path / "config/sdsupervise").mkdir(parents=True)
    (tmp_path / "config/sdsupervise/websearch.toml").touch()
    places = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "TERM": "dumb", **places}


@pytest.mark.parametrize("shell", completion.FILES)
def test_it_is_up_to_date(shell: str) -> None:
    """The files are what shtab makes of the parsers now; `make made` writes them."""
    assert completion.FILES[shell].read_text() == completion.made(shell), "run make made"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["rel"], {"reload"}),
        (["reload", "--keep"], {"--keep-going"}),
        (["reload", "web"], {"webshop", "websearch"}),
        (["reload", "webshop", "webse"], {"websearch"}),
        (["scale", "webs"], {"webshop", "websearch"}),
        (["status", "--j"], {"--json"}),
    ],
)
def test_bash_completes(environment: dict[str, str], words: list[str], offered: set[str]) -> None:
    """bash offers commands, options and instances, those that run and those that are configured."""
    script = f"""
        source {completion.FILES["bash"]}
        COMP_WORDS=(sdsupervise {" ".join(words)}); COMP_CWORD={len(words)}
        $(complete -p sdsupervise | sed 's/.*-F \\([^ ]*\\).*/\\1/') sdsupervise "{words[-1]}" ""
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == offered


EVIL_NAMES = ("$(touch owned)", "`touch owned`", "a b", "$HOME", "-x", "*", "\x1b[2J", "x;touch owned", "x\ny", "..")


def make_evil_places(directory: Path) -> None:
    """Directories and files of these names where instances are looked for, and one good one."""
    for name in (*EVIL_NAMES, "webgood"):
        (directory / "run/sdsupervise" / name).mkdir(parents=True, exist_ok=True)
        (directory / "run/sdsupervise" / name / "control").touch()
        (directory / f"config/sdsupervise/{name}.toml").touch()


def test_bash_runs_no_names(environment: dict[str, str], tmp_path: Path) -> None:
    """Whoever can make a directory cannot have bash run what he calls it, or offer it: not even expanded."""
    make_evil_places(tmp_path)
    script = f"""
        source {completion.FILES["bash"]}
        COMP_WORDS=(sdsupervise reload ""); COMP_CWORD=2
        $(complete -p sdsupervise | sed 's/.*-F \\([^ ]*\\).*/\\1/') sdsupervise "" reload
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = ["bash", "--norc", "-c", f"cd {tmp_path}; {script}"]
    done = subprocess.run(bash, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert not (tmp_path / "owned").exists()
    assert done.stderr == ""
    offered = set(done.stdout.split("\n"))  # and what runs on this machine
    assert {"webgood", "webshop", "websearch"} <= offered
    assert not offered & {*EVIL_NAMES, *(part for name in EVIL_NAMES for part in name.split())}, offered


def test_zsh_completes(environment: dict[str, str], tmp_path: Path) -> None:
    """zsh completes an instance's name, in a terminal, where it is installed."""
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh")
    make_evil_places(tmp_path)
    shutil.copy(completion.FILES["zsh"], tmp_path / "_sdsupervise")
    master, slave = pty.openpty()
    with subprocess.Popen(["zsh", "-f", "-i"], env=environment, stdin=slave, stdout=slave, stderr=slave) as shell:
        os.close(slave)
        try:
            start = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; PS1=; echo rea''dy\n"
            os.write(master, start.encode())
            expect(master, "ready\r")
            os.write(master, b"cd $HOME; sdsupervise reload websh\t")
            expect(master, "webshop")
            # The first Tab may complete what all names begin with; the second lists them.
            os.write(master, b"\x15sdsupervise reload \t\t")
            expect(master, "webgood")
        finally:
            shell.kill()
            os.close(master)
    assert not (tmp_path / "owned").exists()


def test_zsh_offers_no_options(environment: dict[str, str], tmp_path: Path) -> None:
    """Nor any name that is more than a word: of all directories and files it offers what an instance can be called."""
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh")
    make_evil_places(tmp_path)
    text = completion.FILES["zsh"].read_text()
    function = text[text.index("_sdsupervise_instances() {") : text.index("# End Custom Preamble")]
    script = f"compadd() {{ print -rl -- $names }}\n{function}\n_sdsupervise_instances"
    done = subprocess.run(
        ["zsh", "-f", "-c", script], env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    assert done.stderr == ""
    offered = set(done.stdout.splitlines())  # and what runs on this machine
    assert {"webgood", "webshop", "websearch"} <= offered
    assert not [name for name in offered if not name[:1].isalnum()], offered


def expect(master: int, text: str) -> None:
    """Read until this has been written."""
    seen, deadline = "", time.monotonic() + LIMIT_SECONDS
    while text not in seen:
        assert select.select([master], [], [], max(0.0, deadline - time.monotonic()))[0], f"no {text!r} in {seen!r}"
        seen += os.read(master, 65536).decode(errors="replace")
