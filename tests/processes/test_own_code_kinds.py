"""All kinds of modules: what runs of each is what the disk has, and a change of each is a change of the fingerprint."""

from __future__ import annotations

import _queue
import os
import py_compile
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.processes.test_own_code import BY_TIME, HERE, code, compile_all, would_reload, write
from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service

TELLS = """
def warm_up(self):
    report("code", said=WORD)
"""


def serve(ground: Ground, *command: object, **environment: str | None) -> str:
    """Start it; what its module says."""
    ground.run(*command, "--pid-file", ground.pid_file, environment=environment)
    word = ground.expect("code").said("said")
    ground.expect("serves")
    return word


def reload(ground: Ground) -> tuple[str, bool]:
    """What the module says then, and whether it is said that the code is the same as before."""
    done = ground.reload()
    assert done.returncode == 0, done
    ground.expect("serves")
    return ground.expect("code").said("said"), "same code as before" in done.stdout


def change(file: Path, make: object) -> None:
    """Change a file, and leave size and time as they are."""
    before = file.stat()
    make()  # type: ignore[operator]
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size


def test_namespace_package(ground: Ground) -> None:
    """Of a package without __init__.py, in two directories: what was found beside it is the service's, too."""
    for word in "old", "new":
        write(ground, f"{HERE}/company/words.py", f"WORD = {word!r}\n")
        write(ground, f"{HERE}/other.py", "from company.words import WORD\n")
        text = service(TELLS, before="from other import WORD")
        compile_all([write(ground, f"{HERE}/company/service.py", text)] if word == "old" else [])
        if word == "old":
            compile_all(list((ground.directory / HERE).rglob("*.py")))
    assert serve(ground, SDSUPERVISE, "run", "--directory", HERE, "company.service:Service") == "new"
    assert reload(ground) == ("new", True)
    write(ground, f"{HERE}/company/words.py", "WORD = 'two'\n")
    assert "has changed on disk" in would_reload(ground)
    assert reload(ground) == ("two", False)


def make_archive(path: Path, word: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {
            "words.py": f"WORD = {word!r}\n",
            "__main__.py": service(TELLS, before="from words import WORD"),
        }.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)


@pytest.mark.parametrize("way", ["is the service", "lies beside it"])
def test_archive(ground: Ground, way: str) -> None:
    """A zip file is known by its content."""
    archive = ground.directory / HERE / "app.zip"
    archive.parent.mkdir(parents=True)
    make_archive(archive, "one")
    script = archive
    if way != "is the service":
        before = f"sys.path.insert(0, {str(archive)!r})\nfrom words import WORD"
        script = write(ground, f"{HERE}/service.py", service(TELLS, before=before))
    assert serve(ground, PYTHON, script, "--no-fork") == "one"
    assert reload(ground) == ("one", True)
    change(archive, lambda: make_archive(archive, "two"))
    assert "has changed on disk" in would_reload(ground)
    assert reload(ground) == ("two", False)


def test_shared_library(ground: Ground) -> None:
    """An extension module is known by its content."""

    theirs = Path(_queue.__file__)
    ours = ground.directory / HERE / theirs.name
    write(ground, f"{HERE}/service.py", service(TELLS, before="from _queue import __file__ as WORD"))
    shutil.copy(theirs, ours)
    assert serve(ground, SDSUPERVISE, "run", f"{HERE}/service.py") == str(ours)
    assert reload(ground) == (str(ours), True)
    with open(ours, "ab") as file:
        file.write(b"a")
    fresh = ours.with_name("fresh")  # what runs has the old one mapped
    fresh.write_bytes(ours.read_bytes()[:-1] + b"b")
    os.utime(fresh, ns=(0, ours.stat().st_mtime_ns))
    fresh.rename(ours)
    assert "has changed on disk" in would_reload(ground)
    assert reload(ground) == (str(ours), False)


def test_compiled_file_alone(ground: Ground) -> None:
    """A module that comes without its source is known by its content; but for the time that stands in it."""
    write(ground, f"{HERE}/service.py", service(TELLS, before="from words import WORD"))
    alone = ground.directory / HERE / "words.pyc"

    def make(word: str) -> None:
        py_compile.compile(str(write(ground, "words.py", f"WORD = {word!r}\n")), str(alone), invalidation_mode=BY_TIME)

    make("one")
    assert serve(ground, SDSUPERVISE, "run", f"{HERE}/service.py") == "one"
    assert reload(ground) == ("one", True)
    change(alone, lambda: make("two"))
    assert "has changed on disk" in would_reload(ground)
    assert reload(ground) == ("two", False)


FINDER = """
import importlib.util, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "words":
            return importlib.util.spec_from_file_location(name, "{file}")
sys.meta_path.insert(0, Finder)
from words import WORD
"""


@pytest.mark.parametrize(
    "command", [[PYTHON, f"{HERE}/service.py", "--no-fork"], [SDSUPERVISE, "run", f"{HERE}/service.py"]]
)
def test_finder_of_somebody_else(ground: Ground, command: list[str]) -> None:
    """Of what another finder loads without us (that of an editable install, say), an old compiled file is found out
    afterwards."""
    file = ground.directory / HERE / "hidden/words.py"
    write(ground, f"{HERE}/service.py", service(TELLS, before=FINDER.format(file=file)))
    compile_all([write(ground, f"{HERE}/hidden/words.py", "WORD = 'old'\n")])
    write(ground, f"{HERE}/hidden/words.py", "WORD = 'new'\n")
    assert serve(ground, *command) == "new"
    assert reload(ground) == ("new", True)
    write(ground, f"{HERE}/hidden/words.py", "WORD = 'two'\n")
    assert "has changed on disk" in would_reload(ground)
    assert reload(ground) == ("two", False)


@pytest.mark.parametrize(
    "variables", [{"PYTHONDONTWRITEBYTECODE": "1"}, {"PYTHONPYCACHEPREFIX": "cache"}, {"PYTHONOPTIMIZE": "2"}]
)
def test_python_s_own_settings(ground: Ground, variables: dict[str, str]) -> None:
    """Where no compiled files are written, or elsewhere, or under other names, nothing old runs either."""
    if "PYTHONPYCACHEPREFIX" in variables:
        variables = {"PYTHONPYCACHEPREFIX": str(ground.directory / "cache")}
    write(ground, f"{HERE}/service.py", service(TELLS, before="from words import WORD"))
    write(ground, f"{HERE}/words.py", "WORD = 'one'\n")
    compile_all([ground.directory / HERE / "words.py"])
    assert serve(ground, SDSUPERVISE, "run", f"{HERE}/service.py", **variables) == "one"
    write(ground, f"{HERE}/words.py", "WORD = 'two'\n")
    assert reload(ground) == ("two", False)
    assert reload(ground) == ("two", True)
    written = (ground.directory / "cache").exists()
    assert written == ("PYTHONPYCACHEPREFIX" in variables)


def test_service_among_installed_packages(ground: Ground) -> None:
    """Of what was installed the service's own code is its package alone."""
    packages = f"{HERE}/lib/python3.11/site-packages"
    write(ground, f"{packages}/company/__init__.py", "from company.words import WORD\n")
    write(ground, f"{packages}/company/words.py", "from library import *\nWORD = 'one'\n")
    write(ground, f"{packages}/company/service.py", service(TELLS, before="from company import WORD"))
    write(ground, f"{packages}/library.py", "VALUE = 1\n")
    path = f"{ground.library}:{ground.directory / packages}"
    assert serve(ground, SDSUPERVISE, "run", "company.service", PYTHONPATH=path) == "one"
    write(ground, f"{packages}/library.py", "VALUE = 2\n")
    assert reload(ground) == ("one", True)
    write(ground, f"{packages}/company/words.py", "from library import *\nWORD = 'two'\n")
    before = code(ground)
    assert reload(ground) == ("two", False)
    assert code(ground) != before


def test_import_that_fails_shows_none_of_our_frames(ground: Ground) -> None:
    """A traceback has the service's own lines, and none of our loaders'."""
    write(ground, f"{HERE}/service.py", "import words\n")
    for text in "1 +\n", "1 / 0\n":
        write(ground, f"{HERE}/words.py", text)
        for command in [PYTHON, f"{HERE}/service.py"], [SDSUPERVISE, "run", f"{HERE}/service.py"]:
            running = ground.run(*command)
            running.wait()
            assert "words.py" in running.err and "own_code" not in running.err and "importlib" not in running.err
