"""The three ways to start a service, what is said where it cannot be, and the way to the background."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground, notify_socket, service
from tests.support.running import wait_gone

ECHO = service(
    """
    options = ({"name": "port", "option_type": "integer", "default": 1},)
    def serve(self):
        report("port", port=self.get_option("port"), rest=self.parsed_args, original=self.orig_args)
        super().serve()
    """
)
WAYS: dict[str, list[str]] = {
    "script": [PYTHON, "current/service.py", "--no-fork"],
    "file": [SDSUPERVISE, "run", "current/service.py:Service"],
    "file without class": [SDSUPERVISE, "run", "current/service.py"],
    "absolute file": [SDSUPERVISE, "run", "{current}/service.py"],
    "module": [SDSUPERVISE, "run", "--directory", "current", "service:Service"],
    "module in a package": [SDSUPERVISE, "run", "--directory", "current", "company.net.service:Service"],
    "python -m": [PYTHON, "-m", "sdsupervise", "run", "current/service.py:Service"],
}


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_are_equal(ground: Ground, way: str) -> None:
    """A script, a file and a module start the same service with the same options, and each reloads to new code."""
    for release in (2, 1):
        ground.deploy(release, ECHO)
        for package in ("company", "company/net"):
            ground.write(f"releases/{release}/{package}/__init__.py", "")
        text = (ground.current / "service.py").read_text()
        ground.write(f"releases/{release}/company/net/service.py", text)
    command = [word.format(current=ground.current) for word in WAYS[way]]
    running = ground.run(*command, "--port", "5", "--pid-file", ground.pid_file, "rest")
    ground.expect("serves", release=1)
    said = ground.expect("port").details
    assert (said["port"], said["rest"]) == ("5", "['rest']")
    assert "'--port', '5', '--pid-file'" in said["original"]
    assert ground.status()["pid"] == running.pid
    ground.deploy(2, ECHO)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert ground.expect("port").said("port") == "5"
    assert running.wait() == 0
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect("shutdown", release=2)
    ground.expect_nothing_left()


def test_settings_on_the_command_line(ground: Ground) -> None:
    """`sdsupervise run --SETTING` goes before the class's attribute."""
    ground.deploy(1, service("delay_before_respawn = 100.0\ndef serve(self): pass"))
    ground.run(
        SDSUPERVISE, "run", "--delay-before-respawn", "0.01", "current/service.py", "--pid-file", ground.pid_file
    )
    ground.expect("serves")
    ground.expect("serves")


def test_setting_without_meaning(ground: Ground) -> None:
    """A setting for a class without a supervisor is a usage error, not silently nothing."""
    ground.deploy(1, service("def daemon_run(self): pass\ndef handle_shutdown(self): pass", base="Daemon"))
    running = ground.run(SDSUPERVISE, "run", "--stop-timeout", "1", "current/service.py")
    assert running.wait() == 64
    assert "Service is not supervised; leave out --stop-timeout" in running.err


BROKEN = {
    "missing file": ("nowhere.py:Service", ["Cannot load nowhere.py", "no such file"], 78),
    "missing directory": ("no/where.py", ["Cannot load no/where.py", "no such file"], 78),
    "missing module": ("nowhere:Service", ["Cannot load nowhere:Service", "No module named 'nowhere'"], 78),
    "missing class": ("current/service.py:Servant", ["Cannot load", "service.py defines: Service"], 78),
    "no class": ("current/empty.py", ["Cannot load", "empty.py defines: none"], 78),
    "two classes": ("current/two.py", ["Cannot load", "two.py defines: One, Two"], 78),
    "not a class": ("current/service.py:os", ["Cannot load", "service.py defines: Service"], 78),
    "not a service": ("current/service.py:__doc__", ["Cannot load"], 78),
    "a directory": ("current/", ["Cannot load current/", "no such file"], 78),
    "no Python": ("current/service.txt", ["Cannot load current/service.txt"], 78),
    "missing directory option": ("--directory=nowhere", ["Cannot change to the directory nowhere"], 78),
    "bad option": ("--bogus", ["--bogus", "--help"], 64),
}


@pytest.mark.parametrize("case", BROKEN)
def test_target_that_is_none(ground: Ground, case: str) -> None:
    """A target that cannot be is one sentence that names it, and an exit status that says whose fault it is."""
    target, words, status = BROKEN[case]
    two = "from sdsupervise import Daemon\nclass One(Daemon): pass\nclass Two(Daemon): pass\n"
    ground.deploy(1, empty="", two=two)
    ground.write("current/service.txt", "")
    arguments = [target, "current/service.py"] if target.startswith("-") else [target]
    running = ground.run(SDSUPERVISE, "run", *arguments)
    assert running.wait() == status
    *traceback, sentence = running.err.splitlines()
    for word in words:
        assert word in sentence
    assert not traceback or case == "missing module"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def broken(:", ["SyntaxError", 'releases/1/service.py", line 1']),
        ("import requsts", ["ModuleNotFoundError: No module named 'requsts'", 'service.py", line 1, in <module>']),
        ("def f():\n    1 / 0\nf()", ["ZeroDivisionError", 'service.py", line 3, in <module>', "line 2, in f"]),
        ("import helper", ["NameError", 'service.py", line 1', 'helper.py", line 1']),
        ("raise SystemExit('not today')", ["not today"]),
    ],
)
def test_code_that_cannot_be_imported(ground: Ground, code: str, words: list[str]) -> None:
    """The service's own traceback, without a frame of ours, then one sentence; exit status 78."""
    ground.deploy(1, code, helper="undefined_name")
    running = ground.run(SDSUPERVISE, "run", "current/service.py:Service")
    assert running.wait() == 78
    for word in words:
        assert word in running.err
    assert "sdsupervise/" not in running.err and "importlib" not in running.err
    assert running.err.splitlines()[-1].startswith("Cannot load current/service.py:Service: ")


def test_what_systemd_hears_of_it(ground: Ground) -> None:
    """The sentence is the unit's status, with nothing in it that does something to a terminal."""
    ground.deploy(1, r"raise ValueError('no \x1b[31mlicence')")
    with notify_socket(ground) as systemd:
        place = {"NOTIFY_SOCKET": str(ground.directory / "notify")}
        running = ground.run(SDSUPERVISE, "run", "current/service.py:Service", environment=place)
        assert running.wait() == 78
        sentence = "Cannot load current/service.py:Service: ValueError: no ?[31mlicence"
        assert systemd.recv(4096).decode() == f"STATUS={sentence}"
    assert running.err.splitlines()[-1] == sentence


def test_file_named_like_a_module(ground: Ground) -> None:
    """A service in a file called json.py (or like anything else that is imported already) is that file."""
    ground.deploy(1, json=service())
    ground.run(SDSUPERVISE, "run", "current/json.py", "--pid-file", ground.pid_file)
    ground.expect("serves")
    ground.deploy(2, json=service().replace('release = "1"', 'release = "2"'))
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)


def test_siblings_can_be_imported(ground: Ground) -> None:
    """A file's neighbours can be imported, as if it ran as a script."""
    ground.deploy(1, service(before="import helper\nreport(helper.WORD)"), helper="WORD = 'helped'")
    ground.run(SDSUPERVISE, "run", "current/service.py", "--pid-file", ground.pid_file)
    ground.expect("helped")
    ground.expect("serves")


# -------------------------------------------------------------------------------------------------------- background

STREAMS = service(
    """
    def serve(self):
        report("process", session=os.getsid(0), group=os.getpgid(0), directory=os.getcwd(),
               **{f"fd{fd}": os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)})
        super().serve()
    """
)


@pytest.mark.parametrize("way", ["script", "run"])
def test_background(ground: Ground, way: str) -> None:
    """The caller gets 0; the daemon is in a session of its own which it does not lead, std streams to /dev/null; it
    reloads, and stops by SIGTERM to the pid in its file."""
    ground.deploy(1, STREAMS)
    command = {
        "script": [PYTHON, "current/service.py"],
        "run": [SDSUPERVISE, "run", "--daemonize", "current/service.py"],
    }
    caller = ground.run(*command[way], "--pid-file", ground.pid_file)
    assert caller.wait() == 0
    assert (caller.out, caller.err) == ("", "")
    ground.expect("serves", release=1)
    supervisor = psutil.Process(int(ground.pid_file.read_text()))
    assert supervisor.pid != caller.pid
    assert os.getsid(supervisor.pid) not in (os.getsid(0), supervisor.pid)
    assert supervisor.ppid() == os.getpid()  # an orphan: adopted as init would
    said = ground.expect("process").details
    assert [said[f"fd{fd}"] for fd in range(3)] == ["/dev/null"] * 3
    assert [os.readlink(f"/proc/{supervisor.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    assert said["session"] == said["group"] == str(ground.worker_pids()[0])
    assert Path(said["directory"]) == ground.directory
    ground.deploy(2, STREAMS)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    wait_gone(supervisor.pid)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect("shutdown", release=2)
    ground.expect_nothing_left()


def test_pid_is_there_when_the_caller_is_back(ground: Ground) -> None:
    """When the caller has its 0 the pid file names the daemon."""
    ground.deploy(1)
    caller = ground.run(PYTHON, "current/service.py", "--pid-file", ground.pid_file)
    assert caller.wait() == 0
    assert int(ground.pid_file.read_text()) in {process.pid for process in ground.leftovers()}


def test_background_with_closed_streams(ground: Ground) -> None:
    """A daemon that was started with its streams closed works and reloads: no file of ours takes their numbers."""
    ground.deploy(1)
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    caller = ground.run(*closed, PYTHON, "current/service.py", "--pid-file", ground.pid_file)
    assert caller.wait() == 0
    ground.expect("serves")
    pid = int(ground.pid_file.read_text())
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
    ground.deploy(2)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)


def test_background_daemon_fails_in_front(ground: Ground) -> None:
    """What can be wrong is found before the way to the background: the caller gets the sentence and the status."""
    ground.deploy(1)
    first = ground.run(PYTHON, "current/service.py", "--pid-file", "/nowhere/service.pid")
    assert first.wait() == 69
    assert "/nowhere/service.pid" in first.err
    ground.expect_nothing_left()


@pytest.mark.parametrize(
    "command", [[PYTHON, "current/service.py"], [SDSUPERVISE, "run", "--daemonize", "current/service.py"]]
)
def test_foreground_under_systemd(ground: Ground, command: list[str]) -> None:
    """Under systemd (NOTIFY_SOCKET is set) it stays in the foreground by itself."""
    ground.deploy(1)
    with notify_socket(ground) as listener:
        running = ground.run(
            *command, "--pid-file", ground.pid_file, environment={"NOTIFY_SOCKET": str(listener.getsockname())}
        )
        ground.expect("serves")
        assert ground.status()["pid"] == running.pid
        running.signal(signal.SIGTERM)
        assert running.wait() == 0


def test_default_pid_file(ground: Ground) -> None:
    """Without --pid-file it is CLASS.pid in $RUNTIME_DIRECTORY; of several directories, that of sdsupervise."""
    ground.deploy(1)
    for name in ("aaa", "sdsupervise/x"):
        (ground.directory / name).mkdir(parents=True)
    directories = f"{ground.directory}/aaa:{ground.directory}/sdsupervise/x"
    running = ground.run(PYTHON, "current/service.py", "--no-fork", environment={"RUNTIME_DIRECTORY": directories})
    ground.expect("serves")
    assert int((ground.directory / "sdsupervise/x/Service.pid").read_text()) == running.pid
    assert (ground.directory / "sdsupervise/x/control").exists()


def test_version_and_help(ground: Ground) -> None:
    """`sdsupervise --version` and --help answer with 0; no command is a usage error."""
    for arguments, status in (["--version"], 0), (["--help"], 0), (["run", "--help"], 0), ([], 64), (["fly"], 64):
        running = ground.run(SDSUPERVISE, *arguments)
        assert running.wait() == status, arguments
        assert bool(running.out) == (status == 0)
