"""Deploys by a swapped symlink: whatever names code is kept as it was typed, and old code stays old code."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Breakpoint, Ground, installed_package, service

WHERE = service("def serve(self):\n    report('where', directory=os.getcwd())\n    super().serve()")


def deploy_and_reload(ground: Ground, text: str = "") -> None:
    ground.deploy(2, text)
    done = ground.reload()
    assert done.returncode == 0, done
    ground.expect("serves", release=2)


@pytest.mark.parametrize(
    "typed", ["current/service.py", "./releases/../current/service.py", "{current}/service.py", "link.py"]
)
@pytest.mark.parametrize("way", ["script", "run"])
def test_script_through_a_symlink(ground: Ground, typed: str, way: str) -> None:
    """The script's path, absolute or not, goes through the symlink anew; so does a link to the script itself."""
    ground.deploy(1)
    (ground.directory / "link.py").symlink_to("current/service.py")
    command = {"script": [PYTHON], "run": [SDSUPERVISE, "run"]}[way]
    fork = ["--no-fork"] if way == "script" else []
    ground.run(*command, typed.format(current=ground.current), *fork, "--pid-file", ground.pid_file)
    ground.expect("serves", release=1)
    deploy_and_reload(ground)


@pytest.mark.parametrize("directory", ["current", "./current/", "{current}"])
@pytest.mark.parametrize("target", ["service.py", "service:Service"])
def test_directory_option(ground: Ground, directory: str, target: str) -> None:
    """`sdsupervise run --directory` is entered anew by name, also a relative one, and status has that name; the
    service's directory is the new release."""
    ground.deploy(1, WHERE)
    directory = directory.format(current=ground.current)
    ground.run(SDSUPERVISE, "run", "--directory", directory, target, "--pid-file", ground.pid_file)
    ground.expect("where", directory=ground.directory / "releases/1")
    assert ground.status()["directory"] == str(ground.current)
    deploy_and_reload(ground, WHERE)
    ground.expect("where", directory=ground.directory / "releases/2")
    assert ground.status()["directory"] == str(ground.current)


@pytest.mark.parametrize("way", ["script", "run"])
def test_directory_that_a_service_leaves(ground: Ground, way: str) -> None:
    """Status has the directory that a reload enters anew, wherever the service's own code goes when it is loaded."""
    text = service(
        "def serve(self):\n    report('where', directory=os.getcwd())\n    super().serve()", before="os.chdir('/')"
    )
    ground.deploy(1, text)
    if way == "script":
        command = [PYTHON, ground.current / "service.py", "--no-fork"]
    else:
        command = [SDSUPERVISE, "run", "--directory", ground.current, "service.py"]
    ground.run(*command, "--pid-file", ground.pid_file, cwd=ground.directory)
    ground.expect("where", directory="/")
    assert ground.status()["directory"] == str(ground.current if way == "run" else ground.directory)


@pytest.mark.parametrize(
    ("directory", "pwd"), [("current", "current"), ("current/..", "releases"), ("./current/../1", "releases/1")]
)
def test_pwd_of_a_service(ground: Ground, directory: str, pwd: str) -> None:
    """$PWD is where --directory leads, by the name that was typed if that is a name of it: the kernel takes a ".."
    behind a symlink for another directory than a shell does."""
    ground.deploy(1, service("def serve(self):\n    report('where', pwd=os.environ['PWD'])\n    super().serve()"))
    target = ground.current / "service.py"
    ground.run(SDSUPERVISE, "run", "--directory", directory, target, "--pid-file", ground.pid_file)
    ground.expect("where", pwd=ground.directory / pwd)


def test_working_directory_by_name(ground: Ground) -> None:
    """A shell that stands in the symlinked directory: $PWD names it, so the successor starts in the new release."""
    ground.deploy(1, WHERE)
    ground.run(
        PYTHON, "service.py", "--no-fork", "--pid-file", ground.pid_file,
        cwd=ground.current, environment={"PWD": str(ground.current)},
    )  # fmt: skip
    ground.expect("where", directory=ground.directory / "releases/1")
    deploy_and_reload(ground, WHERE)
    ground.expect("where", directory=ground.directory / "releases/2")


@pytest.mark.parametrize("pwd", [None, "/", "/nowhere"])
def test_wrong_pwd(ground: Ground, pwd: str | None) -> None:
    """A $PWD that names another place, or none, does not count: the directory stays the one it was."""
    ground.deploy(1, WHERE)
    ground.run(
        PYTHON, "service.py", "--no-fork", "--pid-file", ground.pid_file,
        cwd=ground.current, environment={"PWD": pwd},
    )  # fmt: skip
    ground.expect("where", directory=ground.directory / "releases/1")
    ground.deploy(2, WHERE)
    assert ground.reload().returncode == 0
    ground.expect("where", directory=ground.directory / "releases/1")


def test_service_that_changes_its_directory(ground: Ground) -> None:
    """A service that enters another directory at its start is started again from where it was started first."""
    text = service(run="os.chdir('/')\nsys.exit(Service().run())")
    ground.deploy(1, text)
    ground.serving()
    deploy_and_reload(ground, text)


@pytest.mark.parametrize("way", ["typed", "shebang", "env"])
def test_interpreter_through_a_symlink(ground: Ground, way: str) -> None:
    """An interpreter in the release is the new release's after a reload: typed, in the script's first line, or found
    by env in $PATH."""
    text = service("def serve(self):\n    report('python', executable=sys.executable)\n    super().serve()")
    (ground.library / "sdsupervise").symlink_to(installed_package())
    interpreter = f"{ground.current}/venv/bin/python3"
    first_line = {"typed": "", "shebang": f"#!{interpreter}\n", "env": "#!/usr/bin/env python3\n"}[way]
    for release in 2, 1:
        ground.deploy(release, first_line + text)
        (ground.current / "venv/bin").mkdir(parents=True)
        (ground.current / "venv/bin/python3").symlink_to("/usr/bin/python3")
        ground.write(f"releases/{release}/venv/pyvenv.cfg", f"home = /usr/bin\nprompt = release-{release}\n")
    script = f"{ground.current}/service.py"
    command = [interpreter, script] if way == "typed" else [script]
    ground.run(
        *command, "--no-fork", "--pid-file", ground.pid_file,
        environment={"PATH": f"{ground.current}/venv/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    ground.expect("serves", release=1)
    assert ground.expect("python").details["executable"] == interpreter
    (ground.directory / "releases/1/venv/bin/python3").unlink()  # the successor must not be executed by this one
    ground.deploy(2, first_line + text)
    done = ground.reload()
    assert done.returncode == 0, done
    ground.expect("serves", release=2)
    argv = ground.status()["argv"]
    assert isinstance(argv, list) and argv[0] == interpreter


LAZY = """
def serve(self):
    signal.signal(signal.SIGHUP, lambda *_: self.look())
    report("ready")
    super().serve()
def look(self):
    import lazy, package.lazy
    report("lazy", module=lazy.RELEASE, package=package.lazy.RELEASE)
"""


@pytest.mark.parametrize("way", ["script", "file", "module"])
def test_late_import_is_of_the_old_release(ground: Ground, way: str) -> None:
    """A module that the old worker imports only after the symlink was swapped comes from the old release."""
    for release in 2, 1:
        ground.deploy(release, service(LAZY, before="import package"), lazy=f"RELEASE = {release}")
        ground.write(f"releases/{release}/package/__init__.py", "")
        ground.write(f"releases/{release}/package/lazy.py", f"RELEASE = {release}")
    command = {
        "script": [PYTHON, "current/service.py", "--no-fork"],
        "file": [SDSUPERVISE, "run", "current/service.py"],
        "module": [SDSUPERVISE, "run", "--directory", "current", "service"],
    }[way]
    ground.run(*command, "--pid-file", ground.pid_file)
    worker = ground.expect("serves", release=1).pid
    ground.expect("ready")
    ground.deploy(2, service(LAZY, before="import package"), lazy="RELEASE = 2")
    os.kill(worker, signal.SIGHUP)
    assert ground.expect("lazy").details == {"module": "1", "package": "1"}
    assert ground.reload().returncode == 0
    ground.expect("ready")
    os.kill(ground.expect("serves", release=2).pid, signal.SIGHUP)
    assert ground.expect("lazy").details == {"module": "2", "package": "2"}


def test_respawned_worker_is_of_the_old_release(ground: Ground) -> None:
    """A worker that is started again after the symlink was swapped, without a reload, still is old code."""
    ground.deploy(
        1, service("def warm_up(self):\n    import lazy\n    report('lazy', release=lazy.RELEASE)"), lazy="RELEASE = 1"
    )
    ground.serving()
    ground.deploy(2, service(), lazy="RELEASE = 2")
    os.kill(ground.worker_pids()[0], signal.SIGKILL)
    ground.expect("lazy", release=1)
    ground.expect("lazy", release=1)


def test_rollback_from_memory(ground: Ground) -> None:
    """The new supervisor is killed after the old worker was stopped: the old code serves again, from memory, also
    where the old release has been deleted meanwhile."""
    hold = Breakpoint(ground, "CLAIMING+LOCK_GAINED")
    text = service("def warm_up(self):\n    import lazy\n    report('lazy', release=lazy.RELEASE)")
    ground.deploy(1, text, lazy="RELEASE = 1")
    running = ground.serving()
    ground.expect("lazy", release=1)
    first = ground.worker_pids()
    ground.deploy(2, service(before=f"os.environ.update({hold.environment})"), lazy="RELEASE = 2")
    reload = ground.reload_process()
    successor = hold.wait()
    ground.expect("shutdown", release=1)
    os.kill(successor, signal.SIGKILL)
    assert reload.wait() == 1
    assert "its worker was stopped and started again" in reload.err
    ground.expect("lazy", release=1)
    ground.expect("serves", release=1)
    assert running.alive and ground.worker_pids() != first
    assert ground.pid_file.read_text() == f"{running.pid}\n"
    deploy_and_reload(ground)


@pytest.mark.parametrize("way", ["script", "run"])
def test_directory_that_is_gone(ground: Ground, way: str) -> None:
    """A service started by absolute names from a directory that was deleted under its caller runs, and reloads."""
    ground.deploy(1)
    place = ground.directory / "place"
    place.mkdir()
    script = ground.current / "service.py"
    command = {"script": [PYTHON, script, "--no-fork"], "run": [SDSUPERVISE, "run", script]}[way]
    ground.run(*command, "--pid-file", ground.pid_file, cwd=place, preexec_fn=place.rmdir)
    ground.expect("serves")
    deploy_and_reload(ground)
