"""An instance: what its file, NAME.toml, says of a service; see instances/keys.py for what may stand there."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UsageError
from ..settings.settings import KINDS
from . import locations

SUFFIX = ".toml"


class Instance(NamedTuple):
    """What a file says, checked."""

    name: str
    file: str
    values: Mapping[str, Any]  # of the keys that stand there, in the order of FILE_KEYS; directory is absolute

    @property
    def listen(self) -> dict[str, object]:
        """What stands at `listen`, by name."""
        return dict(self.values.get("listen", {}))

    @property
    def settings(self) -> dict[str, object]:
        """Those that are settings, but for `listen`."""
        return {key: value for key, value in self.values.items() if key in KINDS and key != "listen"}


def is_file(text: str) -> bool:
    """Somebody who was to say a NAME has said a file, as a shell completes it."""
    return text.endswith(SUFFIX)


def name_of(file: str) -> str:
    """What the instance is called that a file describes.

    Raises UsageError for a file whose name is no instance's.
    """
    name = os.path.basename(file).removesuffix(SUFFIX)
    if not locations.is_name(name):
        raise UsageError(f"{file}: an instance cannot be called {name!r}; {locations.NAMES}.")
    return name
