"""Old names and riddles do not come back into what a person reads: documents, manual pages, units, `--help`, the code.

A word that a place still has stands in ALLOWED for that place. It must go from there when the place no longer has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set

import pytest

from tests.docs.documents import CLONE
from tests.docs.shown_commands import texts

SERVES_ON = r"serves? on(?! (?:the|that|this|its|port)\b)"  # to serve on a socket is plain
BEGINS_WITH_OF = r"(?-i:(?<!\w)Of)"

# What not to write, as it is found in any case of letters, and what to write instead.
WORDS: Mapping[str, str] = {
    # Names that were replaced.
    "elders?": "draining generation",
    "heirlooms?": "passed descriptors",
    "errands?": "hook",
    "chronicles?": "generation log",
    "announcers?": "notify_command",
    "succession": "handover",
    "workforce": "pool",
    "receipts?": "code version",
    "rehears(?:als?|ed?|es|ing)": "dry run",
    "telling": "reload output",
    "surroundings?": "the name of the part, or a Protocol for it",
    "standing": "status",
    "births?|born": "spawn",
    "the other supervisor": "the predecessor or the successor",
    "old ones": "repeat the noun: the old workers, the old generation",
    "supervised process(?:es)?": "worker",
    # States of a supervisor that were renamed.
    "raising": "starting_successor",
    "acting": "on_trial",
    "forcing": "killing_predecessor",
    "recalling": "killing_successor",
    "retaking": "taking_lock_back",
    # Words that hide who does what.
    "told": "name the one who says it, and to whom",
    "heard": "name the one who says it, and to whom",
    "people": "operators, authors, users",
    "what is so": "what is true",
    SERVES_ON: "keeps serving",
    BEGINS_WITH_OF: "begin the sentence with its subject",
}

ALLOWED: Mapping[str, Set[str]] = {
    "documents": set(),
    "manual pages": set(),
    "packages": set(),
    "pictures": set(),
    "units and examples": set(),
    "--help": set(),
    "sdsupervise": set(),
}


def documents() -> Iterator[tuple[str, str]]:
    """The prose of each document for users. What commands print is the code's."""
    paths = [CLONE / "README.md", *CLONE.glob("packaging/*.md"), *CLONE.glob("packaging/doc/*.md")]
    for path in (*paths, CLONE / "units" / "example" / "README.md"):
        yield str(path.relative_to(CLONE)), re.sub(r"```console\n.*?```", _blank, path.read_text(), flags=re.DOTALL)


def manual_pages() -> Iterator[tuple[str, str]]:
    """The sources of the manual pages; blocks of commands are the code's."""
    for path in sorted(CLONE.glob("packaging/man/*.rst")):
        yield str(path.relative_to(CLONE)), re.sub(r"^::\n\n(?:  .*\n|\n(?=  ))+", _blank, path.read_text(), flags=re.M)
    for path in sorted(CLONE.glob("packaging/man/*.py")):
        yield str(path.relative_to(CLONE)), path.read_text()


def packages() -> Iterator[tuple[str, str]]:
    """What the packages say of themselves."""
    for path in (CLONE / "packaging" / "debian" / "control", *CLONE.glob("packaging/rpm/*.spec")):
        yield str(path.relative_to(CLONE)), path.read_text()


def pictures() -> Iterator[tuple[str, str]]:
    """The sources of the pictures."""
    for path in sorted(CLONE.glob("packaging/doc/pictures/*.py")):
        yield str(path.relative_to(CLONE)), path.read_text()


def units_and_examples() -> Iterator[tuple[str, str]]:
    """What operators and authors copy."""
    paths = (CLONE / "packaging" / "example.toml", *sorted((CLONE / "units").rglob("*")))
    for path in paths:
        if path.is_file() and path.suffix not in (".md", ".pyc"):
            yield str(path.relative_to(CLONE)), path.read_text()


def usage() -> Iterator[tuple[str, str]]:
    """`--help` of each command."""
    return ((name, text) for name, text in texts() if name.endswith("--help"))


def code() -> Iterator[tuple[str, str]]:
    """Every module: its messages, docstrings, comments and names."""
    for path in sorted((CLONE / "sdsupervise").rglob("*")):
        if path.suffix in (".py", ".varlink"):
            yield str(path.relative_to(CLONE)), path.read_text()


PLACES: Mapping[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "documents": documents,
    "manual pages": manual_pages,
    "packages": packages,
    "pictures": pictures,
    "units and examples": units_and_examples,
    "--help": usage,
    "sdsupervise": code,
}


def _blank(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")


def found(files: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Each of WORDS that these files have, with the names and lines."""
    places: dict[str, list[str]] = {}
    for name, text in files:
        text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)  # the words of a class's name
        for word in WORDS:
            # A line may end within a phrase.
            pattern = rf"(?<![a-z])(?:{word})(?![a-z])".replace(" ", r"[\s#]+")
            for match in re.finditer(pattern, text, re.IGNORECASE):
                places.setdefault(word, []).append(f"{name}:{text.count(chr(10), 0, match.start()) + 1}")
    return places


@pytest.mark.parametrize("place", PLACES)
def test_no_such_word_comes_back(place: str) -> None:
    """A place has none of WORDS, but for those that it is still allowed."""
    wrong = {word: where for word, where in found(PLACES[place]()).items() if word not in ALLOWED[place]}
    assert wrong == {}, "\n".join(f"{word!r} in {', '.join(wrong[word][:5])}: write {WORDS[word]!r}" for word in wrong)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_allowed_is_still_needed(place: str) -> None:
    """A word that a place no longer has is no longer allowed there."""
    assert ALLOWED[place] - found(PLACES[place]()).keys() == set(), "take it out of ALLOWED"


def test_words_are_found() -> None:
    """In any case of letters, over the end of a line, and as a part of a name, but not within a word."""
    assert list(found([("text", "Elders")])) == ["elders?"]
    assert found([("text", "\nthe other\n# supervisor")]) == {"the other supervisor": ["text:2"]}
    assert list(found([("text", "_wait_for_elder(1)")])) == ["elders?"]
    assert list(found([("text", "class ElderGone")])) == ["elders?"]
    assert found([("text", "It works. Of several, the first; serves\non")]).keys() == {SERVES_ON, BEGINS_WITH_OF}
    assert found([("text", "elderly, interacting, enforcing, PartOf=, one of several, serves on the socket")]) == {}
