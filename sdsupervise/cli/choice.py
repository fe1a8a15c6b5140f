"""An option that takes one of a few words."""

import argparse
from typing import Any

from ..input.nearest import did_you_mean


def one_of(*words: str) -> dict[str, Any]:
    """The arguments of add_argument() for such an option."""

    def read(text: str) -> str:
        if text in words:
            return text
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(words)}.{did_you_mean(text, words)}")

    return {"type": read, "choices": words, "metavar": "|".join(words)}
