"""Finds what a start of an instance would refuse or miss, beyond errors in its file.

Nothing is changed, and no code of the service runs.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from typing import Any

from ..errors import ConfigError
from ..instances import locations
from ..instances.instance import Instance
from ..settings import listen
from ..settings.check_words import may_ask_old_code
from ..settings.settings import CommandSettings, check_settings
from ..sockets import check_reach
from ..sockets.opening import WantedListener
from . import dry_run, program_check, socket_check
from .dry_run import RunContext
from .socket_check import RunPlace, Said

_HELPERS = ("before_commit", "notify_command")


def of_instance(instance: Instance, around: RunContext, settings: Mapping[str, Any]) -> Iterator[Said]:
    """All findings about an instance; `settings` are the known ones, for a class perhaps not all.

    Raises SdsuperviseError.
    """
    values = instance.values
    place = RunPlace(locations.run_directory(instance.name), around.properties)
    programs = [values["python"]] if "python" in values else list(values.get("command", ())[:1])
    for path in (around.directory, *programs):
        if path.startswith("/") and (hidden := place.hides(path)):
            yield Said(f"{hidden} hides {path} from its unit, or replaces it.", True)
            return
    if "command" in values:
        alone = {**instance.settings, "listen": {}, "before_commit": ()}  # the listeners are checked below
        of_it = CommandSettings(*check_settings("", alone))
        found = dry_run.look(
            instance, around, around.identity(), lambda: program_check.of_program(values["command"], of_it)
        )
    else:
        found = dry_run.look(instance, around, around.identity(), lambda: _of_class(values, around.directory))
    yield from found
    if any(said.is_mistake for said in found):
        return
    pid_file = os.path.join(around.directory, values["pid_file"]) if "pid_file" in values else None
    yield from dry_run.look(instance, around, around.opener(), lambda: socket_check.of_place(place, pid_file))
    yield from _of_sockets(instance, around, settings, place)
    if why_not := _why_check_cannot_reach(settings, around):
        yield Said(why_not, True)
    elif not around.unit and (remark := _may_check_old(settings)):  # for a unit, lint says it
        yield Said(remark, False)
    yield from dry_run.look(instance, around, around.opener(), lambda: _of_helpers(settings))


def _of_class(values: Mapping[str, Any], directory: str) -> Iterator[Said]:
    """Findings about the place of the class's code, for the user that loads it."""
    file = values["service"].partition(":")[0]
    if "python" in values:
        for said in program_check.of_helper(values["python"]):
            yield Said(f"python: {said.sentence}", True)
    if file.endswith(".py") or "/" in file:
        if not os.access(os.path.join(directory, file), os.R_OK):
            yield Said(f"Cannot load {values['service']}: uid {os.geteuid()} may not read {directory}/{file}.", True)
    elif "python" not in values and (missing := _missing_module(file, directory)):
        yield Said(missing, True)


def _of_sockets(instance: Instance, around: RunContext, settings: Mapping[str, Any], place: RunPlace) -> Iterator[Said]:
    try:
        entries = () if around.has_socket_unit else listen.check(settings.get("listen"))
        listens = [WantedListener.of(entry, None, None) for entry in entries]
    except ConfigError:
        return  # reported by the check of the file
    # A listener that only the class lists is opened after its code is loaded, with the service's identity.
    ahead = [wanted for wanted in listens if wanted.name in instance.listen]
    later = [wanted for wanted in listens if wanted.name not in instance.listen]
    yield from dry_run.look(instance, around, around.opener(), lambda: socket_check.of_listeners(ahead, [], place))
    if later:
        yield from dry_run.look(
            instance, around, around.identity(), lambda: socket_check.of_listeners(later, ahead, place)
        )


def _why_check_cannot_reach(settings: Mapping[str, Any], around: RunContext) -> str:
    """Why before_commit cannot reach only the new code where this instance runs, as a sentence; "" if it can."""
    try:
        checked = check_settings("", settings)
    except ConfigError:
        return ""  # reported by the check of the file, or listed by the class
    if not checked.checked_beside:
        return ""
    if around.has_socket_unit:
        return check_reach.SHARED
    wanted = [WantedListener.of(entry, None, None) for entry in checked.listen]
    why_not = check_reach.why_not_by_ports(wanted)
    if not around.has_user_of_its_own and (os.geteuid() == 0 or not around.is_somebody_else):
        why_not = why_not or check_reach.why_not_by_files(wanted, around.identity())
    return why_not


def _may_check_old(settings: Mapping[str, Any]) -> str:
    """A remark, as a sentence, that before_commit may reach the old code; "" if there is none."""
    try:
        remark = may_ask_old_code(check_settings("", settings))
    except ConfigError:
        return ""
    return f"{'; '.join(remark)}." if remark else ""


def _of_helpers(settings: Mapping[str, Any]) -> Iterator[Said]:
    for key in _HELPERS:
        for program in settings.get(key, ())[:1]:
            for sentence, _ in program_check.of_helper(program):
                yield Said(f"{key}: {sentence}", key == "before_commit")


def _missing_module(name: str, directory: str) -> str:
    """A sentence if no module of this name exists, as far as that is visible without an import; "" if it may exist."""
    top, _, rest = name.partition(".")
    if top in sys.modules:
        return ""
    spec = PathFinder.find_spec(top, [directory, *sys.path]) or importlib.util.find_spec(top)
    if spec is None:
        return f"There is no module {top} in {directory} or in the search path of Python."
    if rest and spec.submodule_search_locations is None:
        return f"{spec.origin} is not a package, so there is no module {name}."
    return ""
