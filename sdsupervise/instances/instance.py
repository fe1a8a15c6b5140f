"""An instance: what its file NAME.toml says about a service. instances/keys.py has the keys."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UsageError
from ..settings.settings import KINDS
from . import locations

SUFFIX = ".toml"


class Instance(NamedTuple):
    """The checked content of a file."""

    name: str
    file: str
    values: Mapping[str, Any]  # the keys of the file, in the order of FILE_KEYS; directory is absolute

    @property
    def listen(self) -> dict[str, object]:
        """The table `listen` of the file, by name."""
        return dict(self.values.get("listen", {}))

    @property
    def settings(self) -> dict[str, object]:
        """The values that are settings, without `listen`."""
        return {key: value for key, value in self.values.items() if key in KINDS and key != "listen"}


def is_file(text: str) -> bool:
    """Return whether the text is a file name, and no NAME: a shell may have completed it."""
    return text.endswith(SUFFIX)


def name_of(file: str) -> str:
    """Return the name of the instance that a file describes.

    Raises UsageError if the file's name is not a valid name of an instance.
    """
    name = os.path.basename(file).removesuffix(SUFFIX)
    if not locations.is_name(name):
        raise UsageError(f"{file}: an instance cannot be called {name!r}; {locations.NAMES}.")
    return name
