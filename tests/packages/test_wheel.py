"""What pip installs, and what it says where something is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import sdsupervise
from tests.packages.built import SHIPPED, built

SERVICE = """\
import signal
from sdsupervise import SupervisedDaemon

class Service(SupervisedDaemon):
    def supervised_process(self):
        self.ready_to_take_over()
        print("serves", flush=True)
        signal.pause()

    def supervised_shutdown(self):
        pass

if __name__ == "__main__":
    raise SystemExit(Service().run())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source distribution, made by the project's own build backend."""
    (tree,) = (path for path in built("tree").iterdir() if path.is_dir())
    directory = tmp_path_factory.mktemp("made")
    script = "import setuptools.build_meta as b; b.build_sdist('..'); b.build_wheel('..')"
    copy = directory / "tree"
    subprocess.run(["cp", "-a", tree, copy], check=True)
    subprocess.run(["/usr/bin/python3", "-c", script], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    return directory


def metadata(made: Path) -> Message:
    (wheel,) = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{dist_info()}/METADATA").decode())


def dist_info() -> str:
    return f"sdsupervise-{sdsupervise.__version__}.dist-info"


def test_wheel(made: Path) -> None:
    """It has the package, its type marker, its licence and the command, and nothing else."""
    (wheel,) = made.glob("*.whl")
    assert wheel.name == f"sdsupervise-{sdsupervise.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        described = {name for name in names if name.startswith(dist_info())}
        assert "sdsupervise/py.typed" in names
        assert names - described == SHIPPED
        assert "sdsupervise = sdsupervise.cli.main:main" in archive.read(f"{dist_info()}/entry_points.txt").decode()
        assert {f"{dist_info()}/LICENSE", f"{dist_info()}/licenses/LICENSE"} & described  # as setuptools has it


def test_source_distribution(made: Path) -> None:
    """It has all that the wheel is made of."""
    (sdist,) = made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= SHIPPED | {"pyproject.toml", "README.md", "LICENSE"}


def test_metadata(made: Path) -> None:
    """What a package index shows: version, floor, licence, description, and what it needs."""
    facts = metadata(made)
    assert (facts["Name"], facts["Version"]) == ("sdsupervise", sdsupervise.__version__)
    assert facts["Requires-Python"] == ">=3.11"
    assert facts["License"] == "MIT"
    assert facts["Description-Content-Type"] == "text/markdown"
    needed = [word for word in facts.get_all("Requires-Dist", ()) if "extra" not in word]
    assert sorted(word.split(">")[0].rstrip(" (") for word in needed) == ["psutil", "sdnotify", "systemd-python"]


def test_pip_install(made: Path, tmp_path: Path) -> None:
    """In an environment that sees Debian's packages pip finds all it needs there, compiles nothing and fetches nothing,
    and the command works."""
    venv.create(tmp_path, symlinks=True, system_site_packages=True)
    (wheel,) = made.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "bin" / "python"), "--no-input", "install"]
    subprocess.run([*pip, "--quiet", "--no-index", wheel], check=True)
    done = subprocess.run(
        [tmp_path / "bin" / "sdsupervise", "--version"], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == f"sdsupervise {sdsupervise.__version__}\n"


@pytest.fixture(scope="module")
def without_libraries(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that has the wheel and nothing else."""
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, symlinks=True)
    (wheel,) = made.glob("*.whl")
    site_packages = next(directory.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", f"--target={site_packages}", wheel], check=True)
    (directory / "service.py").write_text(SERVICE)
    return directory


def run(where: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command with its Python."""
    return subprocess.run(
        [where / "bin" / "python", *words],
        cwd=where,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("words", [("-m", "sdsupervise", "run", "service.py"), ("service.py", "--no-fork")], ids=str)
def test_missing_libraries(without_libraries: Path, words: tuple[str, ...]) -> None:
    """Under systemd, where python3-systemd is missing: one sentence with the apt line, and exit status 69."""
    done = run(without_libraries, *words, "--no-pid-file", NOTIFY_SOCKET="/nowhere")
    assert done.returncode == 69
    assert "apt-get install python3-sdnotify python3-systemd" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_broken_service_and_missing_libraries(without_libraries: Path) -> None:
    """A service that cannot be loaded ends in no traceback of ours either."""
    done = run(without_libraries, "-m", "sdsupervise", "run", "nosuch.py", NOTIFY_SOCKET="/nowhere")
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


def test_no_libraries_are_needed_without_systemd(without_libraries: Path) -> None:
    """Without systemd it serves, and needs nothing but Python."""
    command = [str(without_libraries / "bin" / "python"), "service.py", "--no-fork", "--no-pid-file"]
    with subprocess.Popen(command, cwd=without_libraries, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serves\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
