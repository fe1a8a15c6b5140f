"""The code version: which code serves, by resolved path and fingerprint."""

from __future__ import annotations

import re

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service


def code(ground: Ground) -> tuple[str, str]:
    """Path and fingerprint as status tells them."""
    found = ground.status()["code"]
    assert isinstance(found, dict)
    return found["path"], found["fingerprint"]


def reload(ground: Ground) -> str:
    done = ground.reload()
    assert done.returncode == 0, done
    ground.expect("serves")
    return done.stdout.splitlines()[-1]


def test_receipt_of_a_script(ground: Ground) -> None:
    """The script's path with all symlinks resolved, and 16 hex digits; log, status and verdict tell the same."""
    running = ground.serving()
    path, fingerprint = code(ground)
    assert path == str(ground.directory / "releases/1/service.py")
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    running.expect_line(rf"Generation 1 starts from {path} \({fingerprint}\)")
    assert f"{path} ({fingerprint})" in str(ground.status()["status"])
    ground.deploy(2)
    verdict = reload(ground)
    path, fingerprint = code(ground)
    assert path == str(ground.directory / "releases/2/service.py") and f"{path} ({fingerprint})" in verdict


def test_receipt_of_a_package(ground: Ground) -> None:
    """For a module of a package: the directory of the package, and all that was imported from it."""
    ground.deploy(1)
    text = (ground.current / "service.py").read_text()
    ground.write("current/company/__init__.py", "")
    ground.write("current/company/other.py", "WORD = 1")
    ground.write("current/company/service.py", "from . import other\n" + text)
    command = [SDSUPERVISE, "run", "--directory", "current", "company.service", "--pid-file", ground.pid_file]
    ground.run(*command)
    ground.expect("serves")
    path, fingerprint = code(ground)
    assert path == str(ground.directory / "releases/1/company")
    ground.write("current/company/other.py", "WORD = 2")
    assert "same code" not in reload(ground)
    assert code(ground) != (path, fingerprint)


@pytest.mark.parametrize("way", ["script", "run"])
def test_same_code(ground: Ground, way: str) -> None:
    """ "Same code as before" is said when nothing that was imported from the release changed, and only then."""
    text = service(before="import helper")
    ground.deploy(1, text, helper="WORD = 1", other="WORD = 1")
    command = {"script": [PYTHON, "current/service.py", "--no-fork"], "run": [SDSUPERVISE, "run", "current/service.py"]}
    running = ground.run(*command[way], "--pid-file", ground.pid_file)
    ground.expect("serves")
    before = code(ground)
    assert "(same code as before)" in reload(ground)
    running.expect_line("Reloaded: .*, same code as before$")
    assert code(ground) == before
    ground.write("current/other.py", "WORD = 2")  # which nobody imports
    assert "(same code as before)" in reload(ground)
    ground.write("current/helper.py", "WORD = 2")
    assert "same code" not in reload(ground)
    assert code(ground)[0] == before[0] and code(ground)[1] != before[1]
    ground.write("current/service.py", text + "# a comment\n")
    assert "same code" not in reload(ground)
    ground.deploy(2, text, helper="WORD = 1")
    assert "same code" not in reload(ground)


def test_forgotten_deploy(ground: Ground) -> None:
    """The same bytes in another release are other code by path and the same by fingerprint: both are shown."""
    ground.deploy(1, service().replace('release = "1"', 'release = "x"'))
    ground.serving()
    before = code(ground)
    ground.deploy(2, service().replace('release = "1"', 'release = "x"'))
    assert "same code" not in reload(ground)
    after = code(ground)
    assert after[0] != before[0] and after[1] == before[1]


def test_failed_reload_keeps_the_receipt(ground: Ground) -> None:
    """After a failed reload status still names the code that serves."""
    ground.serving()
    before = code(ground)
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    assert code(ground) == before
