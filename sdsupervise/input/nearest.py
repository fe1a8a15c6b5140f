"""Suggestions for a mistyped word."""

from collections.abc import Iterable

_MOST_WORDS, _MOST_LETTERS = 500, 200  # the comparison takes time by the square of a word's length


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like this one, or "". Upper and lower case count as equal, as do "-" and "_".

    It is "", too, for a long word, and where many words are known.
    """
    import difflib  # only for a mistyped word

    plain = {_plain(each): each for each in known if each != word}
    if len(plain) > _MOST_WORDS or len(word) > _MOST_LETTERS:
        return ""
    found = difflib.get_close_matches(_plain(word), list(plain), n=1)
    return plain[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'status'?", with the blank at its start, or "" if no known word is similar."""
    meant = nearest(word, known)
    return f" Did you mean '{meant}'?" if meant else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
