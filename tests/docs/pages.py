"""The manual pages: made as packages make them, and what they are made from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.docs.documents import CLONE

SOURCES = CLONE / "packaging" / "man"
sys.path.append(str(SOURCES))
import api as api  # noqa: E402 (what makes them, for tests)
import processes as processes  # noqa: E402
import states as states  # noqa: E402


def make(directory: Path) -> Mapping[str, Path]:
    """Make them there; each by its name and section, as sdsupervise.1."""
    build = [sys.executable, str(SOURCES / "build.py"), str(directory)]
    done = subprocess.run(build, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return {page.name: page for page in sorted(directory.iterdir())}


def run(*command: str) -> tuple[str, str]:
    """What a program that looks at a page prints, and what it complains of."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANROFFSEQ": ""}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr
