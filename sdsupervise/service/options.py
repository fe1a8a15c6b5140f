"""The command-line options of a daemon: the built-in ones (the same as in App::Base::Daemon), and the service's own."""

from collections.abc import Mapping, Sequence

BUILT_IN: Sequence[Mapping[str, object]] = (
    {"name": "help", "documentation": "Show this help information", "option_type": "switch"},
    {"name": "no-fork", "documentation": "Do not detach and run in the background", "option_type": "switch"},
    {"name": "pid-file", "documentation": "Use PATH as the pid file", "display": "PATH", "option_type": "string"},
    {"name": "no-pid-file", "documentation": "Do not use a pid file", "option_type": "switch"},
    {"name": "user", "documentation": "User to run as", "display": "USER", "option_type": "string"},
    {"name": "group", "documentation": "Group to run as", "display": "GROUP", "option_type": "string"},
    {"name": "no-warn", "documentation": "Do not produce warnings, silent mode", "option_type": "switch"},
)

_SWITCH = "switch"
TYPES: Mapping[str, type] = {"string": str, "integer": int, "float": float}


class Parsed:
    """A parsed command line."""

    def __init__(self, values: Mapping[str, object], rest: list[str]) -> None:
        self._values = values
        self.rest = rest

    def get(self, name: str) -> object:
        """An option's value or default.

        Raises KeyError for an unknown name.
        """
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(f"Unknown option {name!r}; known are {', '.join(sorted(self._values))}.") from None


def type_of(option: Mapping[str, object]) -> str:
    """The type of an option: "switch", "string", "integer" or "float".

    Raises ValueError for any other type.
    """
    kind = str(option.get("option_type", _SWITCH))
    if kind != _SWITCH and kind not in TYPES:
        raise ValueError(f"Option {option['name']!r} is of type {kind!r}; it must be switch, string, integer or float.")
    return kind


def parse_plain(options: Sequence[Mapping[str, object]], arguments: Sequence[str]) -> Parsed | None:
    """The result of usage.parse for a simple command line, with whole option names and correct values; None for others.

    Raises ValueError for an invalid definition.
    """
    options = (*BUILT_IN, *options)
    types = {str(option["name"]): type_of(option) for option in options}
    values = {str(option["name"]): _default(option) for option in options}
    odd = {name for name, value in values.items() if isinstance(value, str) and types[name] != "string"}
    if odd or "args" in types or len(types) < len(options):
        return None
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += words
            break
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, is_set, value = word[2:].partition("=")
        if not word.startswith("--") or name not in types or (is_set and types[name] == _SWITCH):
            return None
        if types[name] == _SWITCH:
            values[name] = True
            continue
        text = value if is_set else next(words, "-")
        if text.startswith("-") and not is_set:
            return None
        try:
            values[name] = TYPES[types[name]](text)
        except ValueError:
            return None
    return Parsed(values, rest)


def _default(option: Mapping[str, object]) -> object:
    return bool(option.get("default")) if type_of(option) == _SWITCH else option.get("default")
