"""`unit lint` names code that root executes and that others may write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdsupervise.unitfiles import root_code, text

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")

STRANGER = 61234
OURS = "/usr/bin/sdsupervise"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where all belongs to root: a service, in a virtual environment of its own, and files for a unit."""
    for name in ("app/package", "venv/bin", "venv/lib/python3.11/site-packages"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("app/service.py", "app/package/__init__.py", "app/package/part.py", "app/conf", "venv/pyvenv.cfg"):
        (tmp_path / name).touch()
    for name in ("app/program", "venv/bin/python", "venv/bin/sdsupervise"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "app.toml").touch()
    (tmp_path / "environment").touch()
    (tmp_path / "current").symlink_to("app")
    return tmp_path


def found(place: Path, *lines: str, user: str | None = None) -> list[tuple[str, str]]:
    """Of a unit with these lines: the settings that root's code is from, and who may write what."""
    written = "\n".join(["[Service]", *lines]).replace("PLACE", str(place))
    unit = text.parse("app.service", written)
    return [
        (finding.key, finding.problem.partition(", and ")[0].replace(str(place), "PLACE"))
        for finding in root_code.of_unit(unit, user)
    ]


IN = f"ExecStart={OURS} run --directory PLACE/current"
CASES = {
    "the class's file": ("app/service.py", f"{IN} service.py:Service"),
    "its directory": ("app", f"{IN} service.py:Service"),
    "a symlink's target": ("app", f"WorkingDirectory=PLACE/current\nExecStart={OURS} run service.py:Service"),
    "a module": ("app/package/part.py", f"{IN} package.part:Service"),
    "a package": ("app/package/__init__.py", f"{IN} package.part:Service"),
    "its interpreter": ("venv/bin/python", f"{IN} --python PLACE/venv/bin/python service.py:Service"),
    "its environment": ("venv/pyvenv.cfg", f"{IN} --python=PLACE/venv/bin/python service.py:Service"),
    "its libraries": (
        "venv/lib/python3.11/site-packages",
        f"{IN} --python PLACE/venv/bin/python service.py:Service",
    ),
    "a program": ("app/program", f"{IN} -- ./program"),
    "what a program is given": ("app/conf", f"{IN} -- /bin/cat conf"),
    "where it runs": ("app", f"{IN} -- /bin/cat /dev/null"),
    "our own program": ("venv/bin/sdsupervise", "ExecStart=PLACE/venv/bin/sdsupervise run -- /bin/true"),
    "our own libraries": (
        "venv/lib/python3.11/site-packages",
        "ExecStart=PLACE/venv/bin/sdsupervise run -- /bin/true",
    ),
    "another's file": ("app.toml", f"ExecStart={OURS} run --config PLACE/app.toml"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_others_may_write(place: Path, case: str) -> None:
    """One warning names it, where root executes it; none, where root alone may write it or another user runs it."""
    name, lines = CASES[case]
    assert found(place, lines) == []
    os.chown(place / name, STRANGER, STRANGER)
    named = [("ExecStart", f"uid {STRANGER} may write PLACE/{name}")]
    assert found(place, lines) == found(place, lines, "User=root") == named
    for settings in ("User=games", "DynamicUser=yes"):
        assert found(place, lines, settings) == []
    # Ours is executed, and the file is read, before the rights are given up.
    by_supervisor = name == "app.toml" or case.startswith("our own")
    assert found(place, lines, user="games") == (named if by_supervisor else [])


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_modes(place: Path, mode: int) -> None:
    """A mode that lets everybody write, or a group that is not root's."""
    os.chown(place / "app", 0, STRANGER)
    (place / "app").chmod(mode)
    who = "everybody" if mode == 0o777 else f"group {STRANGER}"
    assert found(place, f"{IN} service.py:Service") == [("ExecStart", f"{who} may write PLACE/app")]


@pytest.mark.parametrize("key", ["ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"])
def test_other_programs_of_the_unit(place: Path, key: str) -> None:
    """So does each other program that the unit has root execute, be it by a prefix or by PermissionsStartOnly=."""
    os.chown(place / "app/program", STRANGER, STRANGER)
    named = [(key, f"uid {STRANGER} may write PLACE/app/program")]
    assert found(place, f"{key}=PLACE/app/program") == named
    assert found(place, f"{key}=PLACE/app/program", "User=games") == []
    assert found(place, f"{key}=-+PLACE/app/program", "User=games") == named
    assert found(place, f"{key}=!PLACE/app/program", "User=games") == named
    assert found(place, f"{key}=PLACE/app/program", "User=games", "PermissionsStartOnly=yes") == named


def test_files_of_variables(place: Path) -> None:
    """LD_PRELOAD and PYTHONPATH are code, too."""
    lines = (f"{IN} service.py:Service", "EnvironmentFile=-PLACE/env*")
    assert found(place, *lines) == []
    os.chown(place / "environment", STRANGER, STRANGER)
    assert found(place, *lines) == [("EnvironmentFile", f"uid {STRANGER} may write PLACE/environment")]
    assert found(place, *lines, "User=games") == []


def test_nothing_is_loaded(place: Path) -> None:
    """To say so, none of that code is run."""
    (place / "app/package/__init__.py").write_text(f"open({str(place / 'loaded')!r}, 'w')")
    assert found(place, f"{IN} package.part:Service") == []
    assert not (place / "loaded").exists()


@pytest.mark.parametrize(
    "variable", ["HOME", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX", "LD_LIBRARY_PATH", "PATH"]
)
def test_variables(place: Path, variable: str) -> None:
    """Where they lead root's processes, whatever user the service is."""
    lines = (f"{IN} service.py:Service", f"Environment=A=1 '{variable}=PLACE/current'")
    assert found(place, *lines, user="games") == []
    os.chown(place / "app", STRANGER, STRANGER)
    assert found(place, *lines, user="games") == [("Environment", f"uid {STRANGER} may write PLACE/app")]
    assert found(place, *lines, "User=games") == []


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_AUDIT"])
def test_libraries(place: Path, variable: str) -> None:
    """Each of several, and none that has but a name."""
    lines = (f"{IN} service.py:Service", f"Environment={variable}=a.so:/usr/lib/b.so:PLACE/app/program")
    assert found(place, *lines, user="games") == []
    os.chown(place / "app/program", STRANGER, STRANGER)
    assert found(place, *lines, user="games") == [("Environment", f"uid {STRANGER} may write PLACE/app/program")]


def test_what_can_be_made(place: Path) -> None:
    """What is not there yet, where everybody may make it; and a directory in which everybody may make files."""
    place.joinpath("app").chmod(0o1777)
    for path, said in (
        ("PLACE/app/lib", "everybody may make PLACE/app/lib"),
        ("PLACE/app", "everybody may put files into PLACE/app"),
    ):
        lines = (f"{IN} -- /bin/true", f"Environment=PYTHONPATH={path}")
        assert found(place, *lines, user="games") == [("Environment", said)]
    assert found(place, f"{IN} -- /bin/true", "Environment=PYTHONPATH=PLACE/none", user="games") == []
