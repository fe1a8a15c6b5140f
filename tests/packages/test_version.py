"""One version, sdsupervise.__version__, in all places that have to say it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import sdsupervise
from tests.packages.built import TREE, built


def versions(tree: Path) -> dict[str, str]:
    """What each place of a tree says."""
    code = (tree / "sdsupervise" / "__init__.py").read_text()
    spec = (tree / "packaging" / "rpm" / "sdsupervise.spec").read_text()
    return {
        "sdsupervise.__version__": found(r'^__version__ = "(.*)"$', code),
        "packaging/debian/changelog": found(r"^sdsupervise \((.*)-\d+\) ", first_line(tree, "debian/changelog")),
        "packaging/rpm/sdsupervise.spec": found(r"^Version: *(.*)$", spec),
        "%changelog of the spec": found(r"^%changelog\n\* .* - (.*)-\d+$", spec),
    }


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match, pattern
    return match[1]


def first_line(tree: Path, name: str) -> str:
    return (tree / "packaging" / name).read_text().splitlines()[0]


def test_one_version() -> None:
    """The Debian changelog and the spec say what the code says, and pyproject.toml takes it from there."""
    assert set(versions(TREE).values()) == {sdsupervise.__version__}
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sdsupervise.__version__"}


def test_changelog() -> None:
    """What users read begins with this release, or with what comes after it."""
    heading = found(r"^## (\S+)", (TREE / "packaging" / "CHANGELOG.md").read_text())
    assert heading in ("Unreleased", sdsupervise.__version__)


def test_another_version() -> None:
    """VERSION= changes all of them, for the tests of an upgrade."""
    (tree,) = (path for path in built("tree", "9.8.7").iterdir() if path.is_dir())
    assert tree.name == "sdsupervise-9.8.7"
    assert set(versions(tree).values()) == {"9.8.7"}
    changelog = ["dpkg-parsechangelog", "--file", f"{tree}/packaging/debian/changelog", "--show-field", "Version"]
    assert subprocess.run(changelog, stdout=subprocess.PIPE, text=True).stdout == "9.8.7-1\n"
