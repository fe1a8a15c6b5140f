"""The lookup of a program by its name."""

import os
from collections.abc import Sequence


def search(name: str, directories: Sequence[str], *, here: str = "") -> tuple[str, bool]:
    """Return the path of a program, and whether this process may execute it; "" if there is none.

    The program is looked up as execvp(3) does: in these directories, or in `here` if there is a "/" in the name.
    """
    places = [here] if "/" in name else [directory for directory in directories if directory]
    there = [path for place in places if os.path.isfile(path := os.path.join(place, name))]
    for path in there:
        if os.access(path, os.X_OK):
            return path, True
    return next(iter(there), ""), False
