"""A service class in a virtual environment of its own (--python): nothing of ours is installed there."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.harness import SDSUPERVISE, Ground, service
from tests.support.running import Running, wait_gone

ONLY_HERE = "import importlib.util\nimport only_here"


@pytest.fixture
def python(ground: Ground) -> Path:
    """The interpreter of an environment with one module, which knows no others but the standard library's."""
    place = ground.directory / "environment"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ground.write("environment/pyvenv.cfg", f"home = {sys.base_prefix}/bin\ninclude-system-site-packages = false\n")
    ground.write(f"environment/lib/{version}/site-packages/only_here.py", "VALUE = 42\n")
    (place / "bin").mkdir()
    (place / "bin/python").symlink_to(os.path.realpath(sys.executable))
    return place / "bin/python"


def start(ground: Ground, python: object, *options: object, target: str = "current/service.py") -> Running:
    return ground.run(SDSUPERVISE, "run", "--python", python, target, "--pid-file", ground.pid_file, *options)


TELLS = """
options = ({"name": "port", "option_type": "integer", "default": 1},)
delay_before_respawn = 0.0
stop_timeout = 12.5
def serve(self):
    found = [name for name in ("psutil", "systemd", "sdnotify", "pytest") if importlib.util.find_spec(name)]
    report("knows", value=only_here.VALUE, port=self.get_option("port"), found=found, index=self.worker_index,
           python=sys.executable, argv=self.orig_args, sockets={n: s.getsockname() for n, s in self.sockets.items()})
    super().serve()
"""


def test_code_that_hangs_while_it_is_described(ground: Ground, python: Path) -> None:
    """The new generation is given up, and the interpreter that imports for it is not left."""
    ground.deploy(1, service("reload_timeout = 6.0", before=ONLY_HERE))
    running = start(ground, python)
    ground.expect("serves", release=1)
    ground.deploy(2, service(before="report('imports')\nwhile True:\n    time.sleep(1000)"))
    reload = ground.reload_process()
    importer = ground.expect("imports").pid
    assert reload.wait() == 1
    wait_gone(importer)
    assert ground.status()["pid"] == running.pid


def test_life_elsewhere(ground: Ground, python: Path) -> None:
    """The class's code, settings and options are found by its interpreter, with what is installed there and nothing
    else; it is started again, reloaded and stopped like any other."""
    ground.deploy(1, service(TELLS, before=ONLY_HERE))
    running = start(ground, python, "--port", "9", "rest")
    worker = ground.expect("serves", release=1).pid
    said = ground.expect("knows").details
    assert (said["value"], said["port"], said["found"], said["index"]) == ("42", "9", "[]", "0")
    assert said["python"] == str(python)
    assert said["argv"] == f"['--pid-file', '{ground.pid_file}', '--port', '9', 'rest']"
    assert ground.status()["name"] == "Service"
    ground.deploy(2, service(TELLS, before=ONLY_HERE))  # not asked for yet
    os.kill(worker, signal.SIGKILL)
    running.expect_line("was killed by SIGKILL")
    ground.expect("serves", release=1)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert running.wait() == 0
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect("shutdown", release=2)
    ground.expect_nothing_left()


def test_sockets_elsewhere(ground: Ground, python: Path) -> None:
    """What the supervisor listens on is open in the worker, by name."""
    ground.deploy(1, service(TELLS + f'listen = {{"admin": "{ground.directory}/admin"}}\n', before=ONLY_HERE))
    start(ground, python)
    assert ground.expect("knows").said("sockets") == f"{{'admin': '{ground.directory}/admin'}}"


def test_lock_is_the_worker_s_alone(ground: Ground, python: Path) -> None:
    """An exclusive worker holds the lock, and what it starts does not: when both it and the supervisor are killed
    another can start beside that."""
    text = """
    def serve(self):
        import subprocess
        report("child", pid=subprocess.Popen(["sleep", "1000"], close_fds=False).pid)
        if os.fork() == 0:
            report("fork")
            signal.pause()
        super().serve()
    """
    ground.deploy(1, service(text))
    running = start(ground, python)
    worker = ground.expect("serves").pid
    child, fork = int(ground.expect("child").said("pid")), ground.expect("fork").pid
    os.kill(worker, signal.SIGSTOP)
    running.signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    second = start(ground, python)
    assert second.wait() == 69
    assert "Is another copy" in second.err
    os.kill(worker, signal.SIGKILL)
    wait_gone(worker)
    start(ground, python)
    ground.expect("serves")
    for pid in (child, fork):
        os.kill(pid, 0)


def test_rollback_elsewhere(ground: Ground, python: Path) -> None:
    """New code that its interpreter cannot import is a failed reload, with the reason and the traceback."""
    ground.deploy(1, service(before=ONLY_HERE))
    running = start(ground, python)
    ground.expect("serves", release=1)
    ground.deploy(2, service(before="import nowhere_to_be_found"))
    reload = ground.reload()
    assert reload.returncode == 1
    assert "No module named 'nowhere_to_be_found'" in reload.stderr
    assert "its worker was never stopped" in reload.stderr
    assert running.alive


WRONG = {
    "no interpreter": ("no/python", "current/service.py", 78, "Cannot run no/python: there is no such program"),
    "no python": ("false", "current/service.py", 78, "bin/false ended with status 1 before it described"),
    "no target": ("{python}", "nowhere.py", 78, "Cannot load nowhere.py: there is no such file"),
    "broken code": ("{python}", "current/broken.py", 78, "Cannot load .*broken.py: NameError: name 'oops'"),
    "wrong setting": ("{python}", "current/wrong.py", 78, "Service: stop_timeout is 'long'; it must be a number"),
    "no supervisor": ("{python}", "current/plain.py", 64, "Service is not supervised; leave out --python"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_elsewhere(ground: Ground, python: Path, case: str) -> None:
    """What cannot be is one sentence, and the exit status says whose fault it is."""
    ground.deploy(
        1,
        broken="oops",
        wrong=service('stop_timeout = "long"'),
        plain=service("def daemon_run(self): pass\ndef handle_shutdown(self): pass", base="Daemon"),
    )
    interpreter, target, status, sentence = WRONG[case]
    running = start(ground, interpreter.format(python=python), target=target)
    assert running.wait() == status
    running.expect_line(sentence)


def test_help_elsewhere(ground: Ground, python: Path) -> None:
    """--help behind the target is the class's own, as ever."""
    ground.deploy(1, service(TELLS, before=ONLY_HERE))
    running = start(ground, python, "--help")
    assert running.wait() == 0
    assert "--port" in running.out and "A service of a test." in running.out


def test_python_is_for_a_class(ground: Ground) -> None:
    """A command names its interpreter itself."""
    running = ground.run(SDSUPERVISE, "run", "--python", "python3", "--", "true")
    assert running.wait() == 64
    assert "--python is for a TARGET" in running.err
