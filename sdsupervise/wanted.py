"""Which service class `sdsupervise run` is to run, and how."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Wanted(NamedTuple):
    """What its command line says of it; see cli/run.py and, for a class in an environment of its own, elsewhere.py."""

    target: str
    arguments: Sequence[str]
    attributes: Mapping[str, object]
    listen: Mapping[str, object]
    foreground: bool
    instance: str = ""  # what it is called, where it is called by its file
