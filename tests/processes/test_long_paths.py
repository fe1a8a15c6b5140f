"""A UNIX socket's path has 107 bytes at most. Whoever has a longer one hears of its length, not of rights."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path

import pytest

from tests.support.harness import SDSUPERVISE, Ground

TOO_LONG = r"is too long for a UNIX socket: {} bytes; the limit is 107"


def long_directory(ground: Ground, length: int, letter: str = "x") -> Path:
    """A directory whose path has so many bytes."""
    ground.directory.chmod(0o755)
    missing = length - len(os.fsencode(ground.directory)) - 1
    path = ground.directory / (letter * (missing // len(letter.encode())) + "y" * (missing % len(letter.encode())))
    path.mkdir()
    path.chmod(0o777)
    assert len(os.fsencode(path)) == length
    return path


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_control_socket_beside_a_pid_file(ground: Ground, letter: str) -> None:
    """The longest that fits is served on; of one byte more both sides say what is wrong."""
    ground.deploy(1)
    for length in 107, 108:
        pid_file = long_directory(ground, length - len("/app.control"), letter) / "app.pid"
        running = ground.run(SDSUPERVISE, "run", "current/service.py", "--pid-file", pid_file)
        if length == 107:
            ground.expect("serves")
            asked = ground.run(SDSUPERVISE, "status", "--pid-file", pid_file)
            assert asked.wait() == 0
            running.signal(signal.SIGTERM)
            assert running.wait() == 0
        else:
            assert running.wait() == 69
            path = pid_file.with_suffix(".control")
            running.expect_line(
                f"^The control socket's path {path} {TOO_LONG.format(108)}; choose a shorter --pid-file, .* "
            )
            asked = ground.run(SDSUPERVISE, "status", "--pid-file", pid_file)
            assert asked.wait() == 69
            asked.expect_line(f"^Nothing can listen on {path}: it {TOO_LONG.format(108)}")


def test_control_socket_of_an_instance(ground: Ground) -> None:
    """The same where a directory for what runs says where it is; `check` knows it before."""
    ground.deploy(1)
    ground.write("app.toml", "directory = 'current'\nservice = 'service.py'\n")
    runtime = long_directory(ground, 100)
    running = ground.run(*(SDSUPERVISE, "run", "--config", "app.toml"), environment={"RUNTIME_DIRECTORY": str(runtime)})
    assert running.wait() == 69
    running.expect_line(f"{runtime}/control {TOO_LONG.format(108)}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_runtime_directory_of_a_user(ground: Ground) -> None:
    """$XDG_RUNTIME_DIR is where instances of users run; `check` knows whether that can be."""
    nobody = pwd.getpwnam("nobody")
    ground.library.chmod(0o755)
    python = ground.public_python()
    ground.deploy(1)
    runtime = long_directory(ground, 84)
    ground.write("app.toml", "directory = 'current'\nservice = 'service.py'\n")
    for verb, status in ("run", 69), ("check", 78):
        running = ground.run(
            *(python, "-m", "sdsupervise", verb, "--config", "app.toml"),
            environment={"XDG_RUNTIME_DIR": str(runtime)},
            user="nobody",
            group=nobody.pw_gid,
            extra_groups=[],
        )
        assert running.wait() == status
        running.expect_line(f"{runtime}/sdsupervise/app/control {TOO_LONG.format(108)}")


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_notify_socket_of_a_command(ground: Ground, letter: str) -> None:
    """It is in the first directory in which its path fits: bytes are counted, not letters."""
    place = long_directory(ground, 90, letter)
    program = ground.program(1, "report('told', path=os.environ['NOTIFY_SOCKET'])\nnotify('READY=1')\nwait()")
    ground.run_command(program, environment={"TMPDIR": str(place)})
    assert ground.expect("told").said("path").startswith("/tmp/notify.")
