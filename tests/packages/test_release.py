"""`make release` in scratch repositories: what it refuses, with a sentence each, and what it tags."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import sdsupervise
from tests.packages.built import TREE

VERSION = sdsupervise.__version__
FILES = ("packaging/release", "packaging/CHANGELOG.md", "packaging/debian/changelog", "packaging/rpm/sdsupervise.spec")
CHANGELOG = (
    f"# Changes\n\n## Unreleased\n\nNothing yet.\n\n## {VERSION}\n\n- It is quicker.\n\n## 0.0.1\n\n- The first.\n"
)
# Stands in for make: says what it is to make.
MAKE = '#!/bin/sh\necho "made $*" >&2\n'


class Repository:
    """A tree with one commit, of what a release looks at."""

    def __init__(self, place: Path) -> None:
        self.place = place / "tree"
        for name in (*FILES, "sdsupervise/__init__.py"):
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TREE / name, self.place / name)
        (self.place / "packaging/CHANGELOG.md").write_text(CHANGELOG)
        self._make = place / "make"
        self.make(MAKE)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *words: str) -> str:
        """What git prints."""
        settings = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        return subprocess.run(
            ["git", *settings, *words],
            cwd=self.place,
            check=True,
            capture_output=True,
            text=True,
            env=self._environment,
        ).stdout

    @property
    def _environment(self) -> dict[str, str]:
        who = {f"GIT_{role}_{fact}": "a@b" for role in ("AUTHOR", "COMMITTER") for fact in ("NAME", "EMAIL")}
        nobodys = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return {"PATH": os.environ["PATH"], "MAKE": str(self._make), "HOME": str(self.place), **who, **nobodys}

    def make(self, script: str) -> None:
        """From now on this stands in for make."""
        self._make.write_text(script)
        self._make.chmod(0o755)

    def commit(self) -> None:
        """All that is there."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=x")

    def change(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file, and commit that."""
        path = self.place / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        self.commit()

    def release(self, *options: str) -> tuple[int, str]:
        """The exit status, and what was said."""
        done = subprocess.run(
            ["packaging/release", *options], cwd=self.place, capture_output=True, text=True, env=self._environment
        )
        return done.returncode, done.stderr

    @property
    def tags(self) -> list[str]:
        return self.git("tag", "--list").split()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_release(repository: Repository) -> None:
    """Tests, packages, tag, in this order; the tag has the section of the changelog, and nothing else of it."""
    status, said = repository.release()
    assert status == 0, said
    assert re.findall("made .*|tagged [^;]*", said) == ["made test", "made deb rpm", f"tagged v{VERSION}"]
    assert repository.git("tag", "--list", "--format=%(contents)", f"v{VERSION}").strip() == "- It is quicker."
    assert repository.git("rev-parse", f"v{VERSION}^{{commit}}") == repository.git("rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("option", "made"), [("--tested", ["made deb rpm"]), ("--check", [])], ids=["CI has passed", "check"]
)
def test_less_than_all(repository: Repository, option: str, made: list[str]) -> None:
    """Without the tests it tags all the same; a check tags nothing."""
    status, said = repository.release(option)
    assert (status, re.findall("made .*", said)) == (0, made)
    assert bool(repository.tags) == (option == "--tested")


def leave_uncommitted(repository: Repository) -> None:
    (repository.place / "new").touch()


def changing(name: str, old: str, new: str) -> Callable[[Repository], None]:
    return lambda repository: repository.change(name, old, new)


LOG = "packaging/CHANGELOG.md"
REFUSED: dict[str, tuple[Callable[[Repository], object], str]] = {
    "a change in the tree": (leave_uncommitted, "the tree has changes that no commit has"),
    "no version": (
        changing("sdsupervise/__init__.py", f'"{VERSION}"', '"next"'),
        "sdsupervise/__init__.py has version 'next': write three numbers",
    ),
    "another version in debian/changelog": (
        changing("packaging/debian/changelog", f"({VERSION}-1)", "(9.9.9-1)"),
        f"packaging/debian/changelog has version '9.9.9' and sdsupervise/__init__.py has {VERSION}",
    ),
    "another version in the spec": (
        changing("packaging/rpm/sdsupervise.spec", f" {VERSION}\n", " 9.9.9\n"),
        f"sdsupervise.spec, Version: has version '9.9.9' and sdsupervise/__init__.py has {VERSION}",
    ),
    "another version in the spec's changelog": (
        changing("packaging/rpm/sdsupervise.spec", f" - {VERSION}-1\n", " - 9.9.9-1\n"),
        f"sdsupervise.spec, %changelog has version '9.9.9' and sdsupervise/__init__.py has {VERSION}",
    ),
    "no section": (changing(LOG, f"## {VERSION}", "## 0.0.2"), f"says nothing of {VERSION}: rename '## Unreleased'"),
    "an empty section": (changing(LOG, "- It is quicker.\n", ""), f"says nothing of {VERSION}: rename '## Unreleased'"),
    "no heading for the next changes": (
        changing(LOG, "## Unreleased\n\nNothing yet.\n", ""),
        "does not begin with '## Unreleased': put that heading back",
    ),
    "changes that are not in the section": (
        changing(LOG, "Nothing yet.", "- It is slower."),
        f"has changes below '## Unreleased': move them to '## {VERSION}'",
    ),
    "a tag that is there": (lambda repository: repository.git("tag", f"v{VERSION}"), f"the tag v{VERSION} is there"),
    "an older version": (
        lambda repository: repository.git("tag", "v10.0.0"),
        f"v{VERSION} is older than the last tag, v10.0.0: choose a later version",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(repository: Repository, case: str) -> None:
    """Nothing is tested, built or tagged, and one sentence says why."""
    prepare, sentence = REFUSED[case]
    prepare(repository)
    before = repository.tags
    status, said = repository.release()
    assert status == 69
    assert sentence in said
    assert "made" not in said and repository.tags == before


@pytest.mark.parametrize(
    ("goal", "sentence"), [("test", "make test failed"), ("deb", f"the packages of {VERSION} cannot be built")]
)
def test_what_fails_is_not_tagged(repository: Repository, goal: str, sentence: str) -> None:
    """A test that fails, or a package that cannot be built."""
    repository.make(f'#!/bin/sh\n[ "$1" != {goal} ]\n')
    status, said = repository.release()
    assert (status, repository.tags) == (69, [])
    assert sentence in said


def test_what_changes_the_tree_is_not_tagged(repository: Repository) -> None:
    """What was tested and built is what is tagged."""
    repository.make("#!/bin/sh\ntouch left-behind\n")
    status, said = repository.release()
    assert (status, repository.tags) == (69, [])
    assert "the tree has changes that no commit has" in said


@pytest.mark.parametrize("options", [("--quick",), ("--check", "--tested")])
def test_usage(repository: Repository, options: tuple[str, ...]) -> None:
    """Another option, or two, is refused."""
    status, said = repository.release(*options)
    assert status == 64 and "option" in said


def test_this_tree_can_be_released() -> None:
    """Its versions agree and its changelog has the section, or the changes that will be one."""
    done = subprocess.run([TREE / "packaging/release", "--check"], capture_output=True, text=True)
    of_the_moment = ("the tree has changes", "has changes below '## Unreleased'", "the tag ", "can be released")
    assert [line for line in done.stderr.splitlines() if not any(reason in line for reason in of_the_moment)] == []
