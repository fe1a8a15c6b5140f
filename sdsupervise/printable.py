"""What others say, as it may be shown to a person: made so where it comes in, before it becomes a reason of ours."""


def printable(text: str) -> str:
    """Lines with "?" for what would move a cursor, ring a bell or set a title on a terminal."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def as_sentence(text: str) -> str:
    """With the stop that it lacks."""
    return text if text.endswith((".", ".)")) else f"{text}."
