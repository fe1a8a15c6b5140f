"""packaging/doc/security.md promises nothing that no test holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

import pytest

from tests.docs.documents import CLONE

PAGE = CLONE / "packaging" / "doc" / "security.md"
SECTIONS = (
    "Who trusts whom",
    "Other local users",
    "The service's user",
    "A compromised worker",
    "The owner of a directory",
    "Root",
    "How you deploy it",
)
OF_ACTORS = SECTIONS[1:-1]
NAMED_TESTS = re.compile(r"<!-- (tests/.*?) -->", re.DOTALL)


def sections() -> Mapping[str, str]:
    """What stands below each heading."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def promises() -> Mapping[str, list[str]]:
    """Each bullet, but for those that lead to a section; and the tests that it names."""
    found: dict[str, list[str]] = {}
    for text in sections().values():
        for bullet in re.findall(r"^- (.*\n(?:  .*\n)*)", text, re.MULTILINE):
            named = NAMED_TESTS.search(bullet)
            sentence = " ".join(NAMED_TESTS.sub("", bullet).split())
            assert sentence not in found, sentence
            found[sentence] = named[1].split() if named else []
    return found


PROMISES = promises()


def test_every_section_is_there() -> None:
    """In its order, with promises; each actor's says what is not promised, too. The list at the top leads to all."""
    assert tuple(sections()) == SECTIONS
    assert all("\n- " in sections()[name] for name in SECTIONS[1:])
    assert [name for name in OF_ACTORS if "**Not promised.**" not in sections()[name]] == []
    anchors = [re.sub(r"[^a-z ]", "", name.lower()).replace(" ", "-") for name in SECTIONS]
    links = [f"- [{name}](#{anchor})" for name, anchor in zip(SECTIONS, anchors, strict=True)]
    assert "\n".join(links) in PAGE.read_text()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[:50])
def test_a_promise_is_held(promise: str) -> None:
    """By a test that there is; and it is a sentence."""
    assert PROMISES[promise], "no test"
    assert re.search(r"\.$", promise)
    for named in PROMISES[promise]:
        path, _, name = named.partition("::")
        functions = ast.parse((CLONE / path).read_text()).body
        assert name in {each.name for each in functions if isinstance(each, ast.FunctionDef)}, named
