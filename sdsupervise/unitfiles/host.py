"""What the systemd of this machine says about its units, by its own tools.

Rejected: D-Bus, for which Python needs a library that no supervisor has. Rejected: reading the unit directories;
`systemctl cat` knows generators, masks, instances and all places of drop-ins.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import CannotWrap, NotReadable, UnitUnavailable
from ..input.printable import one_line
from ..linux.files import read_regular
from ..systemd.manager import DECODED, ask, last_line
from . import rotation, words
from .drop_in import DropIn, why_undone
from .paths import own_files, own_program
from .subject import Host
from .text import UnitText, parse

if TYPE_CHECKING:
    from subprocess import CompletedProcess

_MANAGERS = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_RUNS_US = re.compile(r"argv\[\]=(?:[^;]*[ /])?sdsupervise run ")
_FRAGMENT = re.compile(r"# (/\S+)")
_STOPPED = ("RequiredBy", "BoundBy", "ConsistsOf")
_MOST_UNITS = 100  # that stop together
_SECONDS = 60.0  # for one answer of systemctl
_MOST_BYTES = 1024 * 1024  # of one file; a hundred times the largest one in Debian
# Settings of [Install], which systemd's list of known settings does not contain.
_INSTALL = {("Install", key) for key in ["Alias", "WantedBy", "RequiredBy", "UpheldBy", "Also", "DefaultInstance"]}


def unit_name(text: str) -> str:
    """The full name of a unit that a user calls gunicorn, gunicorn.service or app@1."""
    return text if text.endswith(".service") else f"{text}.service"


def read(name: str) -> UnitText:
    """A unit with its drop-ins, as systemd merges them; or one file, if the name contains a "/".

    Raises UnitUnavailable.
    """
    if "/" in name:
        try:
            return parse(os.path.basename(name), read_regular(name, _MOST_BYTES).decode(*DECODED), name)
        except NotReadable as error:
            raise UnitUnavailable(f"Cannot read {name}: {error}.") from error
    unit = unit_name(name)
    try:
        done = _ask("systemctl", "cat", "--no-pager", "--", unit)
    except UnitUnavailable as error:
        raise UnitUnavailable(f"{error} For a file give its path (./NAME).") from None
    if done.returncode != 0:
        if "No files found" in done.stderr:
            raise UnitUnavailable(f"There is no unit {unit}; systemctl list-unit-files shows those there are.")
        raise UnitUnavailable(f"systemctl cat {unit} failed: {last_line(done.stderr)}")
    if f"# Unit {unit} is masked." in done.stdout:
        raise UnitUnavailable(f"{unit} is masked; systemctl unmask {shlex.quote(unit)} brings it back.")
    fragment = _FRAGMENT.match(done.stdout)
    return parse(_real_name(unit, os.path.basename(fragment[1])) if fragment else unit, done.stdout)


def _real_name(name: str, file: str) -> str:
    """The name of a unit whose file has another name: `name` is an alias, or an instance of a template."""
    instance = name.partition("@")[2]
    return file.replace("@.", f"@{instance.rpartition('.')[0]}.", 1) if "@." in file else file


def variables_of(unit: UnitText) -> Mapping[str, str] | None:
    """The variables from the files of EnvironmentFile=; None if one of them cannot be read."""
    found: dict[str, str] = {}
    for path in unit.values("EnvironmentFile"):
        if path.startswith("-/") and "%" not in path and not os.path.exists(path[1:]):
            continue  # an optional file
        try:
            text = read_regular(path.removeprefix("-"), _MOST_BYTES).decode(*DECODED)
        except NotReadable:
            return None
        lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]
        pairs = (line.partition("=") for line in lines)
        found |= {name.strip(): " ".join(words.split(value)) for name, equals, value in pairs if equals}
    return found


def facts() -> Host:
    """What lint() needs to know about this machine's systemd; an empty Host if there is none."""
    try:
        return Host(version(), _known(), _runtime_directories(), rotation.read(), own_files(own_program()))
    except UnitUnavailable:
        return Host()


def version() -> int:
    """The version of the installed systemd, such as 252; 0 if unknown.

    Raises UnitUnavailable.
    """
    found = re.match(r"systemd ([0-9]{1,5})\b", _ask("systemctl", "--version").stdout)
    return int(found[1]) if found else 0


def our_units() -> list[str]:
    """The sorted names of all units whose ExecStart= runs sdsupervise, active or not.

    Templates are left out, their enabled or active instances are not.

    Raises UnitUnavailable.
    """
    shown = _show("Id,ExecStart", "--", *_all_services())
    return sorted(name for name, values in shown.items() if _RUNS_US.search(values.get("ExecStart", "")))


def sockets_of(name: str) -> list[str]:
    """The .socket units that pass their sockets to a service, or to the instances of a template.

    Raises CannotWrap if there is one process for each connection, UnitUnavailable.
    """
    prefix, at, instance = name.removesuffix(".service").partition("@")
    if not at or instance:
        sockets = _show("Id,TriggeredBy", "--", name).get(name, {}).get("TriggeredBy", "").split()
        return sorted(socket for socket in sockets if socket.endswith(".socket"))
    if _socket(f"{prefix}.socket").flag("Accept", section="Socket"):
        raise CannotWrap(
            f"{prefix}.socket has Accept=yes: it starts {name} for each connection, so there is nothing to supervise."
        )
    template = f"{prefix}@.socket"
    return [template] if _socket(template).assignments else []


def _socket(name: str) -> UnitText:
    """A .socket unit; empty if there is none."""
    return parse(name, _ask("systemctl", "cat", "--no-pager", "--", name).stdout)


def running(name: str) -> list[str]:
    """The active ones of a unit, or of the instances of a template."""
    shown = _show("Id,ActiveState", "--", name.replace("@.", "@*.", 1))
    return sorted(unit for unit, values in shown.items() if values.get("ActiveState") not in ("inactive", "failed"))


def stopped_with(names: Sequence[str]) -> list[str]:
    """The active units that systemd stops when it stops these."""
    found, asked = list(names), 0
    while asked < len(found) < _MOST_UNITS:
        shown = _show("Id,RequiredBy,BoundBy,ConsistsOf", "--", *found[asked:])
        asked = len(found)
        others = {other for values in shown.values() for key in _STOPPED for other in values.get(key, "").split()}
        found += sorted(other for other in others - {*found} if is_active(other))
    return found[len(names) :]


def what_systemd_lacks(drop_in: DropIn) -> str:
    """What systemd does not see of a drop-in that it has read, as a clause; "" if it sees all of it."""
    lacks = why_undone(read(drop_in.unit), drop_in)
    if lacks or "@." in drop_in.unit:
        return lacks
    seen = _show("Id,LoadState,DropInPaths", "--", drop_in.unit).get(drop_in.unit, {})
    if seen.get("LoadState") != "loaded":
        return f"systemd cannot load {drop_in.unit} with it ({seen.get('LoadState')})"
    return "" if drop_in.path in seen.get("DropInPaths", "").split() else "systemd does not read this file"


def reread() -> None:
    """Run `systemctl daemon-reload`.

    Raises UnitUnavailable.
    """
    done = _ask("systemctl", "daemon-reload")
    if done.returncode != 0:
        raise UnitUnavailable(f"systemctl daemon-reload failed: {last_line(done.stderr)}")


def is_active(name: str) -> bool:
    """Whether the unit is active."""
    return _ask("systemctl", "is-active", "--quiet", "--", name).returncode == 0


def failures(names: Iterable[str], *, of_user: bool = False) -> Mapping[str, str]:
    """The failed ones of these units, each with its last STATUS= or systemd's Result.

    With `of_user` the units of this user's own systemd. Empty if there is no systemd.
    """
    names = list(names)
    try:
        properties = "Id,ActiveState,Result,StatusText"
        shown = _show(properties, *["--user"] * of_user, "--", *names) if names else {}
    except UnitUnavailable:
        return {}
    return {
        name: one_line(values.get("StatusText") or f"Its unit has failed: {values.get('Result')}")
        for name, values in shown.items()
        if values.get("ActiveState") == "failed"
    }


def _known() -> frozenset[tuple[str, str]]:
    """Every setting that the installed systemd can read, as (section, key)."""
    manager = next((path for path in _MANAGERS if os.access(path, os.X_OK)), "")
    if not manager:
        return frozenset()
    found, section = set(), ""
    for line in _ask(manager, "--dump-configuration-items").stdout.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line:
            found.add((section, line.partition("=")[0]))
    return frozenset(found | _INSTALL) if found else frozenset()


def _runtime_directories() -> Mapping[str, Sequence[str]]:
    shown = _show("Id,RuntimeDirectory", "--all", "*.service")
    return {name: found for name, values in shown.items() if (found := values.get("RuntimeDirectory", "").split())}


def _all_services() -> list[str]:
    choice = ("--type=service", "--all", "--plain", "--no-legend", "--no-pager")
    listed = "".join(_ask("systemctl", verb, *choice).stdout for verb in ("list-units", "list-unit-files"))
    return sorted({line.split()[0] for line in listed.splitlines() if line.strip() and "@." not in line.split()[0]})


def _show(properties: str, *units: str) -> Mapping[str, Mapping[str, str]]:
    """The values of these properties, one of which must be Id, by unit and property."""
    output = _ask("systemctl", "show", "--no-pager", f"--property={properties}", *units).stdout
    blocks = [dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in output.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def _ask(*command: str) -> "CompletedProcess[str]":
    return ask(*command, seconds=_SECONDS)
