"""What runs is the code on disk, never an old compiled file; and the fingerprint is of what runs.

An old compiled file is one that Python itself takes for the source: it has the source's size and second. Deploys make
such ones: `touch -d`, archives with fixed times, `rsync --times`, two within a second.
"""

from __future__ import annotations

import os
import pwd
import py_compile
import shutil
import signal
from collections.abc import Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service
from tests.support.running import Running

BY_TIME = py_compile.PycInvalidationMode.TIMESTAMP
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
FIXED_TIME = 1_000_000_000
TELLS = """
def warm_up(self):
    import late
    report("code", early=early.WORD, after=after.WORD, late=late.WORD, pid=os.getppid())
"""
HERE = "releases/1"


class Way(NamedTuple):
    """How a service is started, and where its code lies."""

    command: Sequence[object]
    place: str = HERE  # of what it imports
    script: str = f"{HERE}/service.py"
    import_from: str = ""


WAYS = {
    "script": Way([PYTHON, f"{HERE}/service.py", "--no-fork"]),
    "python -m": Way([PYTHON, "-m", "service", "--no-fork"]),
    "python -m package": Way(
        [PYTHON, "-m", "company.service", "--no-fork"],
        f"{HERE}/company",
        f"{HERE}/company/service.py",
        "from company ",
    ),
    "run file": Way([SDSUPERVISE, "run", f"{HERE}/service.py"]),
    "run module": Way([SDSUPERVISE, "run", "--directory", HERE, "service"]),
    "run package": Way(
        [SDSUPERVISE, "run", "--directory", HERE, "company.service"],
        f"{HERE}/company",
        f"{HERE}/company/service.py",
        "from company ",
    ),
    "run from another interpreter": Way([SDSUPERVISE, "run", "--python", PYTHON, f"{HERE}/service.py"]),
}


def write(ground: Ground, name: str, text: str) -> Path:
    """A file whose time says nothing."""
    path = ground.write(name, text)
    os.utime(path, (FIXED_TIME, FIXED_TIME))
    return path


def put(ground: Ground, place: str, word: str) -> list[Path]:
    return [write(ground, f"{place}/{name}.py", f"WORD = {word!r}\n") for name in ("early", "after", "late")]


def deploy(ground: Ground, way: Way, word: str) -> list[Path]:
    """All of it, with this word in each module, one of which is imported before anything of ours."""
    text = service(TELLS, before=f"{way.import_from}import after")
    script = write(
        ground,
        way.script,
        f"{way.import_from}import early\n" + text.replace("import late", f"{way.import_from}import late"),
    )
    if way.import_from:
        write(ground, f"{way.place}/__init__.py", "")
    ground.point_to(1)
    return [script, *put(ground, way.place, word)]


def compile_all(sources: Sequence[Path], mode: py_compile.PycInvalidationMode = BY_TIME) -> None:
    for source in sources:
        py_compile.compile(str(source), invalidation_mode=mode)


def start(ground: Ground, way: Way, **environment: str | None) -> Running:
    library = f"{ground.library}:{ground.directory / HERE}" if "-m" in way.command else str(ground.library)
    changes = {"PYTHONPATH": library, **environment}
    return ground.run(*way.command, "--pid-file", ground.pid_file, environment=changes)


def code(ground: Ground) -> str:
    found = ground.status()["code"]
    assert isinstance(found, dict)
    return str(found["fingerprint"])


def words(ground: Ground) -> set[str]:
    """What the worker's modules said."""
    said = ground.expect("code").details
    return {said[name] for name in ("early", "after", "late")}


def stop(ground: Ground, running: Running) -> None:
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@pytest.mark.parametrize("mode", [BY_TIME, UNCHECKED], ids=["by time", "unchecked"])
@pytest.mark.parametrize("name", WAYS)
def test_old_compiled_files_are_not_run(ground: Ground, name: str, mode: py_compile.PycInvalidationMode) -> None:
    """Whatever is imported, before us, after us, or late in a worker, is of the source; and so is the fingerprint."""
    way = WAYS[name]
    compile_all(deploy(ground, way, "old"), mode)
    deploy(ground, way, "new")
    running = start(ground, way)
    assert words(ground) == {"new"}
    ground.expect("serves")
    fingerprint = code(ground)
    stop(ground, running)
    shutil.rmtree(ground.directory / HERE)
    deploy(ground, way, "new")
    start(ground, way)
    ground.expect("serves")
    assert code(ground) == fingerprint


@pytest.mark.parametrize("name", WAYS)
def test_reload_within_one_second(ground: Ground, name: str) -> None:
    """Code of the same size and second is other code: for whoever is asked, also where only a worker imports it."""
    way = WAYS[name]
    deploy(ground, way, "one")
    start(ground, way)
    assert words(ground) == {"one"}
    ground.expect("serves")
    first = code(ground)
    assert "same code as before" in ground.reload().stdout
    assert words(ground) == {"one"}
    assert "nothing to reload" in would_reload(ground)
    write(ground, f"{way.place}/late.py", "WORD = 'two'\n")
    assert "has changed on disk" in would_reload(ground)
    done = ground.reload()
    assert done.returncode == 0 and "same code as before" not in done.stdout
    assert words(ground) == {"one", "two"}
    ground.expect("serves")
    assert code(ground) != first and code(ground) in done.stdout
    put(ground, way.place, "two")
    assert "same code as before" not in ground.reload().stdout
    assert words(ground) == {"two"}


def would_reload(ground: Ground) -> str:
    """What --outdated says it would reload, and why."""
    asked = ground.finish(ground.run(SDSUPERVISE, "reload", "--outdated", "--dry-run", "--pid-file", ground.pid_file))
    assert asked.returncode == 0, asked
    return asked.stdout


def test_script_that_ran_an_old_compiled_file(ground: Ground) -> None:
    """What a script imported before us is mended once: the process executes itself anew, with the same pid and all
    that it was given, and says nothing of it; a later start finds nothing to mend."""
    way = WAYS["script"]
    compile_all(deploy(ground, way, "old"))
    deploy(ground, way, "new")
    counts = "import os\nopen(os.environ['GROUND'] + '/begun', 'a').write('x')\n"
    script = ground.directory / way.script
    write(
        ground,
        way.script,
        counts + script.read_text().replace('"code"', '"code", left=os.environ.get("SDSUPERVISE_EXECUTED_ANEW")'),
    )
    running = start(ground, way)
    said = ground.expect("code").details
    assert said["early"] == "new" and said["pid"] == str(running.pid) and said["left"] == "None"
    assert (ground.directory / "begun").read_text() == "xx"
    ground.expect("serves")
    assert ground.reload().returncode == 0
    assert words(ground) == {"new"}
    assert (ground.directory / "begun").read_text() == "xxx"


def test_reload_to_a_script_that_runs_an_old_compiled_file(ground: Ground) -> None:
    """A successor that executes itself anew keeps what its predecessor hands over to it."""
    way = WAYS["script"]
    deploy(ground, way, "one")
    running = start(ground, way, PYTHONDONTWRITEBYTECODE="1")
    assert words(ground) == {"one"}
    ground.expect("serves")
    compile_all([ground.directory / HERE / "early.py"])
    deploy(ground, way, "two")
    done = ground.reload()
    assert done.returncode == 0, done
    assert words(ground) == {"two"}
    running.expect_line("Reloaded")
    assert ground.status()["generation"] == 2


def test_old_compiled_file_that_may_not_be_removed(ground: Ground) -> None:
    """Where a script cannot be mended it does not start, and says what to do; what comes after us is loaded rightly."""
    if os.geteuid() != 0:
        pytest.skip("root makes what others may not remove")
    way = WAYS["script"]
    compile_all(deploy(ground, way, "old"))
    deploy(ground, way, "new")
    running = start_as_nobody(ground)
    assert running.wait() == 78
    file = ground.directory / HERE / "early.py"
    running.expect_line(
        rf"^Python used {cache_from_source(str(file))}, which does not match {file}; sdsupervise has "
        f"no permission to remove it"
    )
    os.unlink(cache_from_source(str(file)))
    start_as_nobody(ground)
    assert words(ground) == {"new"}


def start_as_nobody(ground: Ground) -> Running:
    """The script, as somebody who may write nothing there."""
    nobody = pwd.getpwnam("nobody")
    ground.write("nobody/.keep", "")
    os.chown(ground.directory / "nobody", nobody.pw_uid, nobody.pw_gid)
    return ground.run(
        *(PYTHON, f"{HERE}/service.py", "--no-fork", "--pid-file", ground.directory / "nobody/pid"),
        user="nobody",
        group=nobody.pw_gid,
        extra_groups=[],
    )


def test_module_that_is_replaced_after_it_was_loaded(ground: Ground) -> None:
    """The fingerprint is of what was loaded, though the file is another one by the time that all is."""
    ground.make_gate()
    way = WAYS["run file"]
    deploy(ground, way, "one")
    start(ground, way)
    ground.expect("serves")
    before = code(ground)
    script = ground.directory / way.script
    write(
        ground,
        way.script,
        script.read_text().replace(
            "import after", "import after\nfrom told import wait_at_gate\nwait_at_gate('loaded')"
        ),
    )
    reload = ground.reload_process()
    ground.expect("loaded")
    write(ground, f"{HERE}/early.py", "WORD = 'two'\n")
    write(ground, way.script, script.read_text() + "# and this")
    ground.open_gate()
    assert ground.finish(reload).returncode == 0
    assert words(ground) == {"one"}
    ground.expect("serves")
    assert "has changed on disk" in would_reload(ground)
    mixed = code(ground)
    put(ground, HERE, "one")
    write(ground, way.script, script.read_text().removesuffix("# and this"))
    reload = ground.reload_process()
    ground.expect("loaded")
    ground.open_gate()
    assert "same code as before" in ground.finish(reload).stdout
    assert code(ground) == mixed != before


WAITS_ONCE = """
import os, told
if os.path.exists(os.environ["GROUND"] + "/gate"):
    told.wait_at_gate("loaded")
"""


@pytest.mark.parametrize("what", ["early", "service", "symlink"])
def test_script_that_is_replaced_while_it_starts(ground: Ground, what: str) -> None:
    """What Python loaded without us cannot be known any more: it is loaded anew, and what runs is what the disk has."""
    ground.make_gate()
    way = Way([PYTHON, "current/service.py", "--no-fork"])
    deploy(ground, way, "one")
    script = ground.directory / way.script
    text = f"import early\n{WAITS_ONCE}{script.read_text()}"
    for name in "releases/2", HERE:
        put(ground, name, "one")
        write(ground, f"{name}/service.py", text.replace('release = "1"', f'release = "{name[-1]}"'))
    start(ground, way)
    ground.expect("loaded")
    match what:
        case "early":
            write(ground, f"{HERE}/early.py", "WORD = 'two'\n")
        case "service":
            write(ground, way.script, text.replace('release = "1"', 'release = "2"'))
        case "symlink":
            ground.point_to(2)
    waiting = (ground.directory / "gate").rename(ground.directory / "gate.old")
    fd = os.open(waiting, os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b"g")
    os.close(fd)
    assert words(ground) == ({"one", "two"} if what == "early" else {"one"})
    ground.expect("serves", release=1 if what == "early" else 2)
    assert "nothing to reload" in would_reload(ground)


def test_script_that_changes_all_the_time(ground: Ground) -> None:
    """Twice is a deploy that is not complete: that is said."""
    way = WAYS["script"]
    deploy(ground, way, "one")
    script = ground.directory / way.script
    write(ground, way.script, f"import os\nos.utime({str(script)!r})\n{script.read_text()}")
    running = start(ground, way)
    assert running.wait() == 78
    running.expect_line(f"^{script} changes while it is being loaded; start again when it is complete.$")


@pytest.mark.parametrize("name", ["run file", "run from another interpreter"])
def test_worker_that_is_started_anew_after_a_deploy(ground: Ground, name: str) -> None:
    """What it imports from the disk then is not what its generation began with: that is said, and the fingerprint is
    of both."""
    way = WAYS[name]
    deploy(ground, way, "one")
    running = start(ground, way)
    ground.expect("code")
    worker = ground.expect("serves").pid
    before = code(ground)
    put(ground, HERE, "two")
    os.kill(worker, signal.SIGKILL)
    new = {"one", "two"} if name == "run file" else {"two"}
    assert words(ground) == new
    ground.expect("serves")
    running.expect_line(
        rf"runs {ground.directory}/{HERE}/\w+.py as it is on disk now, .*; reload, so that all run "
        f"the same code"
    )
    assert code(ground) != before
    assert "has changed on disk" in would_reload(ground)
    assert ground.reload().returncode == 0
    assert words(ground) == {"two"}
    ground.expect("serves")
    assert "nothing to reload" in would_reload(ground)


def test_module_that_a_script_writes_itself(ground: Ground) -> None:
    """It is newer than the process, and what was loaded of it all the same."""
    way = WAYS["script"]
    deploy(ground, way, "one")
    script = ground.directory / way.script
    writes = f"open({str(ground.directory / HERE / 'version.py')!r}, 'w').write('VERSION = 1\\n')\nimport version\n"
    write(ground, way.script, writes + script.read_text())
    start(ground, way)
    assert words(ground) == {"one"}
    ground.expect("serves")
    assert "same code as before" in ground.reload().stdout


def test_code_that_is_unequal_to_itself(ground: Ground) -> None:
    """By a NaN, say: then Python's compiled file cannot be proven, and is made anew once."""
    way = WAYS["script"]
    deploy(ground, way, "one")
    write(ground, f"{HERE}/early.py", "WORD = 'one'\nNAN = 1e999 - 1e999\n")
    running = start(ground, way)
    assert words(ground) == {"one"}
    ground.expect("serves")
    assert "same code as before" in ground.reload().stdout
    assert running.wait() == 0
