"""The classes of services, from their signatures, annotations and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from markup import defined, escaped, literal, sentence

from sdsupervise.child.draining import Draining
from sdsupervise.service.daemon import Daemon, SupervisedDaemon
from sdsupervise.service.options import BUILT_IN
from sdsupervise.settings.settings import OF_CLASSES

# These methods have no leading underscore, and yet are not for authors of services.
OURS = frozenset({"plan", "shut_down", "become_worker", "be_worker", "drain_worker", "prepare_workers"})
_OF_DRAINING = ("fileno", "wait")  # and begin() is ours
CLASSES: Mapping[str, type] = {"Daemon": Daemon, "SupervisedDaemon": SupervisedDaemon, "Draining": Draining}


def api_names(cls: type) -> list[str]:
    """What a service may use of a class, and other classes in front of it do not have."""
    if cls is Draining:
        return list(_OF_DRAINING)
    inherited = () if cls is Daemon else dir(Daemon)
    own = (name for name in vars(cls) if not name.startswith("_") and name not in OURS)
    return [name for name in own if name not in inherited or name in ("handle_shutdown", "error")]


def about(class_name: str) -> str:
    """The docstring of a class."""
    return docstring(CLASSES[class_name])


def methods(class_name: str) -> str:
    """The methods of a class, with their docstrings."""
    cls = CLASSES[class_name]
    found = [(name, inspect.getattr_static(cls, name)) for name in api_names(cls)]
    return "".join(_method(name, value) for name, value in found if callable(value) or isinstance(value, property))


def _method(name: str, value: object) -> str:
    function = value.fget if isinstance(value, property) else value
    assert callable(function)
    # As it is called: without self, quotes and modules.
    signature = re.sub(r"'|\bself(, )?|\b[a-z_]+\.(?=\w)", "", str(inspect.signature(function)))
    if isinstance(value, property):
        return defined(f"**{escaped(name)}**: {escaped(signature.removeprefix('() -> '))}", docstring(function))
    return defined(f"**{escaped(name)}**\\ {escaped(signature)}", docstring(function))


def docstring(thing: object) -> str:
    """A docstring as reStructuredText, which ours nearly are."""
    text = inspect.getdoc(thing) or ""
    paragraphs = [literal(inspect.cleandoc(part)) if part.startswith("    ") else part for part in text.split("\n\n")]
    return re.sub(r"`([^`]+)`", r"*\1*", "\n\n".join(paragraphs))


def built_in_options() -> str:
    """Those of every service that is started as a script."""
    return "".join(
        defined(
            f"**--{option['name']}**" + (f" *{option['display']}*" if "display" in option else ""),
            escaped(sentence(str(option["documentation"]))),
        )
        for option in sorted(BUILT_IN, key=lambda option: str(option["name"]))
    )


def defaults() -> str:
    """The settings that are attributes of a class, with their types and defaults."""
    types = inspect.get_annotations(SupervisedDaemon)
    rows = [(name, _type_name(types[name]), repr(getattr(SupervisedDaemon, name))) for name in OF_CLASSES]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return literal("\n".join(f"{name:{widths[0]}}  {kind:{widths[1]}}  {default}" for name, kind, default in rows))


def _type_name(kind: object) -> str:
    return kind.__name__ if type(kind) is type else re.sub(r"\b[a-z.]+\.", "", str(kind))
