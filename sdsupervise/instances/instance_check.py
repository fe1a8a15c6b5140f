"""Checks the file of an instance, and finds every mistake in it, not only the first."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..input.nearest import nearest
from ..input.toml_text import shown, written_key
from ..linux import privileges, program_search
from ..settings import listen
from ..settings.settings import EACH_IN_EXCLUSIVE, KINDS, too_few, why_never_ready, why_not_checked
from ..sockets.opening import WantedListener
from .keys import FILE_KEYS, ONLY_FOR_CLASSES, ONLY_FOR_COMMANDS

_ADDRESS = 'such as http = "127.0.0.1:8000"'


class Mistake(NamedTuple):
    """A mistake, and its place."""

    path: tuple[str | int, ...]  # the key's path; () is the file as a whole
    sentence: str
    in_key: bool = False  # the key is wrong, not its value


def check(
    found: Mapping[str, Any], *, base: str, directory: str | None, started_in: str, search: Sequence[str]
) -> tuple[dict[str, Any], list[Mistake]]:
    """Check the parsed file; return the values of all good keys, and every mistake.

    `base` is the directory for a relative `directory`. The argument `directory` replaces the key. Without either, the
    service runs in `started_in`. Programs are looked up in the directories of `search`.
    """
    values: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for key, value in found.items():
        kind = FILE_KEYS.get(key)
        try:
            if kind is None:
                mistakes.append(_unknown((key,), FILE_KEYS, value))
            elif key == "listen":
                mistakes += _in_listen(value)
                values[key] = value
            else:
                values[key] = kind.check(value)
        except ValueError:
            assert kind is not None
            mistakes.append(Mistake((key,), f"{key} is {shown(value)}; it must be {kind.wanted} ({kind.meaning})."))
    mistakes += _in_choice(found)
    mistakes += _in_pool(values)
    if "ready_after" in values and (too_late := why_never_ready({key: values[key] for key in values if key in KINDS})):
        mistakes.append(Mistake(("ready_after",), too_late))
    if isinstance(values.get("listen"), Mapping):
        mistakes += _between_listeners(values)
    mistakes += _of_before_commit(values)
    if "directory" in values:
        values["directory"] = os.path.join(base, values["directory"])
    place = directory or values.get("directory") or started_in
    if os.path.isdir(place):
        mistakes += _in_directory(values, place, search)
    elif not directory:  # a given directory is checked when the service enters it
        mistakes.append(Mistake(("directory",), f"There is no directory {place}."))
    mistakes += _of_accounts(values)
    return values, mistakes


def _in_pool(values: Mapping[str, Any]) -> Iterator[Mistake]:
    workers, most = values.get("workers"), values.get("max_workers")
    if isinstance(workers, int) and isinstance(most, int) and 0 < most < workers:
        yield Mistake(("max_workers",), too_few(workers, most))


def _unknown(path: tuple[str, ...], known: Iterable[str], value: object) -> Mistake:
    name = path[-1]
    if isinstance(value, Mapping) and any(key in FILE_KEYS for key in value) and len(path) == 1:
        hint = "; put all keys at the top of the file, outside of tables."
    else:
        meant = nearest(name, known)
        hint = f"; did you mean {meant}?" if meant else "; sdsupervise.toml(5) has them all."
    return Mistake(path, f"There is no key {written_key(name)}{hint}", in_key=True)


def _in_choice(found: Mapping[str, object]) -> Iterator[Mistake]:
    """Yield the mistakes in the choice between a class and a command."""
    if ("service" in found) == ("command" in found):
        if {"service", "command"} & {nearest(key, FILE_KEYS) for key in found if key not in FILE_KEYS}:
            return  # the key is there, with a mistyped name
        path = ("command",) if "command" in found else ()
        yield Mistake(path, "Nothing to run: set either service (a class) or command.", in_key=True)
        return
    wrong = ONLY_FOR_CLASSES if "command" in found else ONLY_FOR_COMMANDS
    there, needed = ("command", "service") if "command" in found else ("service", "command")
    for key in found:
        if key in wrong:
            yield Mistake((key,), f"{key} is for a {needed}, but this instance runs a {there}.", in_key=True)
    if found.get("command") == []:
        yield Mistake(("command",), "command is empty; write a program, and its arguments.")


# --------------------------------------------------------------------------------------------------------- sockets


def _in_listen(value: object) -> Iterator[Mistake]:
    """Yield the mistakes in each entry of `listen`, and in each option."""
    if not isinstance(value, Mapping):
        yield Mistake(("listen",), f"listen is {shown(value)}; it must be a table of names and addresses, {_ADDRESS}.")
        return
    for name, entry in value.items():
        if not isinstance(entry, Mapping):
            yield from _in_entry(("listen", name), {name: entry})
            continue
        known = ("address", *listen.OPTIONS)
        alone = {option: entry[option] for option in ("address",) if option in entry}
        before = [*_in_entry(("listen", name), {name: alone})]
        yield from before
        for option, said in entry.items():
            if option not in known:
                yield _unknown(("listen", name, option), known, said)
            elif option != "address" and not before:
                yield from _in_entry(("listen", name, option), {name: {**alone, option: said}})


def _in_entry(path: tuple[str, ...], entry: Mapping[str, object]) -> Iterator[Mistake]:
    try:
        for checked in listen.check(entry):
            WantedListener.of(checked, None, None)
    except ConfigError as error:
        yield Mistake(path, str(error), in_key=not listen.is_name(path[-1]))


def _between_listeners(values: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield the entries that share an address, and those whose lanes have no meaning.

    Two addresses that take the same port are no mistake here: a .socket unit may open both. checks/socket_check.py
    looks at what a start will open.
    """
    earlier: list[WantedListener] = []
    for name, entry in values["listen"].items():
        try:
            (checked,) = listen.check({name: entry})
            wanted = WantedListener.of(checked, None, None)
        except ConfigError:
            continue
        if why_not := next(filter(None, map(wanted.why_one_with, earlier)), ""):
            yield Mistake(("listen", name), why_not)
        earlier.append(wanted)
        handover = values.get("handover", "exclusive" if "command" in values else "")
        if checked.lanes and handover == "exclusive":
            yield Mistake(
                ("listen", name, "lanes"),
                f"listen {name!r} has lanes, which are for handover overlap; in an exclusive service, clients wait "
                f"in the listener's queue for the new worker.",
            )


def _of_before_commit(values: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield why before_commit cannot reach the new code alone. For a class, only what its own check does not say
    better."""
    handover = values.get("handover", "exclusive" if "command" in values else "")
    if values.get("before_commit_each") and handover == "exclusive":
        yield Mistake(("before_commit_each",), EACH_IN_EXCLUSIVE)
    if not values.get("before_commit") or handover != "overlap":
        return
    try:
        entries = listen.check(values.get("listen", {}))
    except ConfigError:
        return
    why_not = why_not_checked(entries) if entries or "command" in values else ""
    if why_not:
        yield Mistake(("before_commit",), why_not)


# --------------------------------------------------------------------------------------------------- on this host


def _of_accounts(values: Mapping[str, Any]) -> Iterator[Mistake]:
    for key in ("user", "group"):
        try:
            privileges.look_up(*(values.get(key) if key == each else None for each in ("user", "group")))
        except ConfigError:
            yield Mistake((key,), f"There is no {key} {shown(values[key])} on this host.")


def _in_directory(values: Mapping[str, Any], place: str, search: Sequence[str]) -> Iterator[Mistake]:
    """Yield the mistakes in files that are looked up from the service's directory."""
    file, _, _ = str(values.get("service", "")).partition(":")
    if file.endswith(".py") or "/" in file:
        path = os.path.join(place, file)
        if not os.path.isfile(path):
            yield Mistake(("service",), f"There is no file {path}.")
    if "python" in values:
        yield from _in_program(("python",), values["python"], place, search)
    for key in ("command", "before_commit"):
        if values.get(key):
            yield from _in_program((key, 0), values[key][0], place, search)


def _in_program(path: tuple[str | int, ...], name: str, place: str, search: Sequence[str]) -> Iterator[Mistake]:
    """Yield the mistakes in a program that is looked up from the service's directory."""
    found, may = program_search.search(name, search, here=place)
    if not found:
        in_path = f"{name} in PATH ({':'.join(filter(None, search))})"
        where = os.path.join(place, name.removeprefix("./")) if "/" in name else in_path
        yield Mistake(path, f"There is no program {where}.")
    elif not may:
        yield Mistake(path, f"{found} is not executable for uid {os.geteuid()}; try chmod +x.")
