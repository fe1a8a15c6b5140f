"""Packages of this tree as it is, built once for all tests that want them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.debian_root import locked

TREE = Path(__file__).parents[2]
PLACE = TREE / ".venv" / "packages"
SHIPPED = {
    str(path.relative_to(TREE))
    for path in (TREE / "sdsupervise").rglob("*")
    if path.is_file() and path.suffix != ".pyc"
}
"""The files of the Python package, from the top of the tree."""

KEPT = 8  # directories; those of older trees go
BUILD_LIMIT_SECONDS = 300


def built(goal: str, version: str = "") -> Path:
    """The directory that `packaging/build GOAL` fills: deb, rpm or tree; as if the tree were of that version."""
    path = PLACE / f"{goal}-{version or 'own'}-{fingerprint()}"
    PLACE.mkdir(exist_ok=True)
    with locked(PLACE / f"{goal}-{version}.lock"):
        if not path.is_dir():
            build(goal, path, version)
            for old in sorted(PLACE.glob("*-*-*"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
    return path


def build(goal: str, path: Path, version: str = "") -> None:
    """Fill the directory, which is there when all of it is."""
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run(
        [TREE / "packaging" / "build", goal, partial],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_LIMIT_SECONDS,
        env={**os.environ, "VERSION": version},
    )
    assert done.returncode == 0, done.stdout
    partial.rename(path)


def fingerprint() -> str:
    """Of all that a package may be made of: what git knows and what is new."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={TREE}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=TREE,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    digest = hashlib.sha256()
    for name in sorted(set(listed.split(b"\0"))):
        path = TREE / os.fsdecode(name)
        if name and path.is_file():
            digest.update(b"%s\0%o\0" % (name, path.stat().st_mode))
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
