"""The programs from PyPI, installed as their users do it: a virtual environment, made once and kept beside the roots.

A machine shows it at PLACE. Nothing in it is compiled for one Python, so that it serves every Debian we boot; it is
made by hand and not by venv, because it is made out here and used in there.

Alternatives considered: Debian's own packages of these programs are years behind what people run, and differ between
Debian 12 and 13; a pip within the machine would need a way to PyPI at every boot.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from tests.support.debian_root import cache_directory, locked

PLACE = "/srv/hello/venv"
REQUIREMENTS = Path(__file__).with_name("programs.txt")
PYTHONS = ("python3.11", "python3.13")  # of Debian 12 and 13

SCRIPT = "#!{place}/bin/python3\nimport sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"


class ProgramsUnavailable(Exception):
    """The programs cannot be installed here; the message says why."""


def environment() -> Path:
    """Where it is out here; made when it is not there yet, which takes some ten seconds.

    Raises ProgramsUnavailable.
    """
    recipe = f"{PLACE} {PYTHONS} {SCRIPT} {REQUIREMENTS.read_text()}"
    path = cache_directory() / f"programs-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(path.name + ".lock")):
        if not path.is_dir():  # somebody else may have made it while we waited for the lock
            make(path)
    return path


def make(path: Path) -> None:
    """Make it beside its place and rename it, so that a directory of that name is always complete."""
    print(f"installing the programs of {REQUIREMENTS.name} in {path} (once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.partial.", dir=path.parent) as partial:
        new = Path(partial, "venv")
        site_packages = new / "lib" / PYTHONS[0] / "site-packages"
        install(site_packages)
        for other in PYTHONS[1:]:
            (new / "lib" / other).symlink_to(PYTHONS[0])
        shutil.rmtree(site_packages / "bin")  # scripts of the Python out here
        (new / "bin").mkdir()
        (new / "bin" / "python3").symlink_to("/usr/bin/python3")
        (new / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        for distribution in distributions(path=[str(site_packages)]):
            for entry_point in distribution.entry_points.select(group="console_scripts"):
                script = new / "bin" / entry_point.name
                text = SCRIPT.format(place=PLACE, module=entry_point.module, function=entry_point.attr)
                script.write_text(text)
                script.chmod(0o755)
        new.chmod(0o755)
        new.rename(path)


def install(site_packages: Path) -> None:
    """Have pip put the packages there."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"),
            *("--no-deps", "--target", str(site_packages), "--requirement", str(REQUIREMENTS)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise ProgramsUnavailable(f"pip could not install {REQUIREMENTS}; check the way to PyPI.\n{done.stdout}")


def main() -> int:
    """Print where it is."""
    try:
        print(environment())
    except ProgramsUnavailable as error:
        print(error, file=sys.stderr)
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
