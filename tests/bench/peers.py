"""What others run services with, from PyPI, in a virtual environment of its own that is built once and kept."""

import functools
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.debian_root import cache_directory, locked

from .ground import BenchError

_REQUIREMENTS = Path(__file__).with_name("peers.txt")


def program(name: str) -> str:
    """The path of a peer's program.

    Raises BenchError where PyPI is out of reach and nothing is kept yet.
    """
    return str(_environment() / "bin" / name)


@functools.cache
def _environment() -> Path:
    interpreter = Path(sys.executable).resolve()  # ours, so that both sides run in the same Python
    recipe = f"{interpreter} {sys.version} {_REQUIREMENTS.read_text()}"
    path = cache_directory() / f"peers-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    complete = path / "complete"
    if not complete.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(path.name + ".lock")):
            if not complete.exists():  # somebody else may have built it while we waited
                _build(interpreter, path)
                complete.touch()
    return path


def _build(interpreter: Path, path: Path) -> None:
    print(f"installing the peers into {path} (once)", file=sys.stderr)
    shutil.rmtree(path, ignore_errors=True)  # half of one, perhaps
    pip = [str(path / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    for command in (
        [str(interpreter), "-m", "venv", str(path)],
        [*pip, "install", "--requirement", str(_REQUIREMENTS)],
    ):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"The peers cannot be installed; check the way to PyPI. {done.stdout}{done.stderr}")
