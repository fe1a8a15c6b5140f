"""What a document links to is there: files, pictures and sections."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.documents import CLONE

PAGES = [
    *(CLONE / name for name in ("README.md", "units/example/README.md")),
    *sorted(CLONE.glob("packaging/*.md")),
    *sorted(CLONE.glob("packaging/doc/*.md")),
]
_TARGET = re.compile(r'\]\((?!https?:)([^)]+)\)|\bsrc(?:set)?="([^"]+)"')


def targets(page: Path) -> list[str]:
    """What the page links to in the tree."""
    return ["".join(found) for found in _TARGET.findall(page.read_text())]


def sections(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CLONE)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each file is in the tree, and each section is in its page."""
    missing = []
    for target in targets(page):
        name, _, section = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (section and section not in sections(file)):
            missing.append(target)
    assert missing == []


def test_links_are_found() -> None:
    """The pages that everybody begins with link to others, and to pictures."""
    found = targets(CLONE / "README.md")
    assert "packaging/doc/guide.md" in found
    assert any(target.endswith(".svg") for target in found)
