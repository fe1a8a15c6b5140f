"""What somebody may have meant who mistyped a word."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one, whatever its case, "-" for "_" and the reverse; "" if none is."""
    import difflib  # only for those who mistype

    plain = {_plain(each): each for each in known if each != word}
    found = difflib.get_close_matches(_plain(word), list(plain), n=1)
    return plain[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " Did you mean 'status'?", or "" where nothing is near."""
    meant = nearest(word, known)
    return f" Did you mean '{meant}'?" if meant else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
