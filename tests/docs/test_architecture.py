"""packaging/doc/architecture.md and invariants.md name folders, modules, tests and pictures that are there."""

from __future__ import annotations

import re

import pytest

from sdsupervise.core.takeover import State
from tests.docs.documents import CLONE
from tests.unit.test_layers import APART, LAYERS

DIRECTORY = CLONE / "packaging" / "doc"
PAGES = ("architecture.md", "invariants.md")
TOPS = ("sdsupervise", "tests", "packaging", "units")
FOLDERS = {path.name for path in (CLONE / "sdsupervise").iterdir() if (path / "__init__.py").exists()}


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_is_there(page: str) -> None:
    """Every path of a module, a folder, a test, a picture and another page."""
    text = (DIRECTORY / page).read_text()
    modules = set(re.findall(r"(?<![\w/])(?!tests/)[a-z_]+/[a-z_]+\.py", text))
    assert modules and [path for path in modules if not (CLONE / "sdsupervise" / path).exists()] == []
    tests = set(re.findall(r"\btests/[a-z_/]+(?:\.py)?", text))
    assert tests and [path for path in tests if not (CLONE / path).exists()] == []
    links = set(re.findall(r'(?:src|srcset)="([^"]+)"|\]\(([\w./]+)\)', text))
    assert [path for paths in links for path in paths if path and not (DIRECTORY / path).exists()] == []
    assert set(re.findall(r"`([a-z_]+)/`", text)) <= FOLDERS


def test_the_folders_are_those_of_the_package() -> None:
    """The picture has all of them; the one beside the layers is named in the text."""
    assert {folder for layer in LAYERS for folder in layer} - {"errors"} | set(APART) == FOLDERS
    text = (DIRECTORY / "architecture.md").read_text()
    assert all(f"`{folder}/`" in text for folder in APART)
    assert "pictures/folders-light.svg" in text


def test_two_screens() -> None:
    """The page stays short."""
    assert len((DIRECTORY / "architecture.md").read_text().splitlines()) <= 100


def test_no_state_that_is_gone() -> None:
    """Whatever is set as a state is one."""
    for page in PAGES:
        named = set(re.findall(r"`([a-z]+_[a-z_]+)`", (DIRECTORY / page).read_text()))
        assert named <= {state.name.lower() for state in State}


def test_no_page_is_cited_that_is_not_here() -> None:
    """Whoever follows a pointer to a page in capitals, such as README.md, finds it in this tree."""
    everything = [path for top in TOPS for path in (CLONE / top).rglob("*") if path.is_file()]
    there = {path.name for path in [*everything, *CLONE.glob("*.md"), *CLONE.glob(".github/*.md")]}
    texts = (path for path in everything if path.suffix in (".py", ".rst", ".md", ".varlink", ".toml", ".service"))
    cited = {(page, path.name) for path in texts for page in re.findall(r"\b[A-Z][A-Z-]+\.md\b", path.read_text())}
    assert {(page, by) for page, by in cited if page not in there} == set()
