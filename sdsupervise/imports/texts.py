"""The files that an import writes: for each instance its file, its drop-in and its environment; and the targets."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import CannotImport, CannotWrap, ConfigError
from ..input.printable import one_line
from ..input.toml_text import written
from ..instances.instance import Instance
from ..instances.keys import DEFAULTS, FILE_KEYS
from ..settings.settings import check_settings
from ..unitfiles.fit import fit
from .imported import Imported, ImportedTarget

INSTANCES, UNITS = "/etc/sdsupervise", "/etc/systemd/system"
_DROP_IN = "import.conf"
# Variables that a supervisor would obey itself: its Python, its linker, its C library, and our own code.
_OF_ITSELF = ("PYTHON", "LD_", "GLIBC_", "MALLOC_", "SDSUPERVISE_", "LISTEN_", "WATCHDOG_")
_OF_ITSELF_WHOLE = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "MAINPID", "RUNTIME_DIRECTORY")
# Variables by which root would read, or execute, files of the user that the service becomes.
_NOT_FOR_ROOT = (
    *("HOME", "PATH", "TMPDIR", "TZDIR", "GCONV_PATH", "LOCPATH", "LOCALDOMAIN", "HOSTALIASES", "NLSPATH"),
    *("RESOLV_HOST_CONF", "RES_OPTIONS", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSL_CERT_FILE"),
    *("SSL_CERT_DIR", "CREDENTIALS_DIRECTORY", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # what systemd takes as a name
_ENDS_LINE = re.compile(r"[\n\r\0]")
_MOST_CHARACTERS = 60_000  # of an instance's file, of which 64 KiB are read


class WantedFile(NamedTuple):
    """A file as it is to be; without text, it is not to be."""

    path: str
    text: str
    source: str  # the file that it comes from
    instance: str = ""  # the instance that it is about
    mode: int = 0o644


def files_of(instance: Imported) -> Iterator[WantedFile]:
    """The files of an instance. Raises CannotImport if its values cannot be those of an instance."""
    values: dict[str, Any] = dict(instance.values)
    path = f"{INSTANCES}/{instance.name}.toml"
    unit, service, notes = _fitted(instance, values, path)
    environment, beside = _split(instance, service)
    if beside:
        values["command"] = ["/usr/bin/env", *(f"{name}={value}" for name, value in beside.items()), *values["command"]]
    if environment:
        service = [f"EnvironmentFile={INSTANCES}/{instance.name}.env", *service]
    text = "\n".join(
        [
            f"# {one_line(instance.where)}: {one_line(' '.join(instance.named) or instance.name)}",
            *(f"# note: {one_line(note)}" for note in (*instance.notes, *notes)),
            *(f"{key} = {written(values[key])}" for key in FILE_KEYS if key in values and values[key] != DEFAULTS[key]),
        ]
    )
    if len(text.encode(errors="surrogatepass")) > _MOST_CHARACTERS:
        raise CannotImport(f"{instance.where}: its command is too long for the file of an instance.")
    about = (instance.source, instance.name)
    yield WantedFile(path, f"{text}\n", *about)
    assignments = "".join(map(_assignment, environment.items()))
    yield WantedFile(f"{INSTANCES}/{instance.name}.env", assignments, *about, mode=0o600)
    lines = [*(["[Unit]", *unit] if unit else []), *(["[Service]", *service] if service else [])]
    if any(map(_ENDS_LINE.search, lines)):
        raise CannotImport(f"{instance.where}: one of its values has a line break in it.")
    drop_in = f"{UNITS}/sdsupervise@{instance.name}.service.d/{_DROP_IN}"
    yield WantedFile(drop_in, "\n".join([*lines, ""]) if lines else "", *about)


def notes_of(instances: Iterable[Imported]) -> Iterator[str]:
    """All notes about instances, each with its place. A note that several instances of one place have is one."""
    names: dict[tuple[str, str], list[str]] = {}
    for instance in instances:
        _, service, fitting = _fitted(instance, instance.values, "")
        beside = _split(instance, service)[1]
        why = "because the supervisor would obey it, or systemd refuses its name"
        alone = f"{', '.join(beside)}: set for the command alone, {why}"
        for note in (*instance.notes, *fitting, *([alone] if beside else [])):
            names.setdefault((instance.where, note), []).append(instance.name)
    for (where, note), of_them in names.items():
        yield f"{where}: {', '.join(of_them)}: {note}"


def file_of(target: ImportedTarget) -> WantedFile:
    """The unit of a target."""
    wanted = [f"Wants={' '.join(f'sdsupervise@{name}.service' for name in target.autostarted)}"]
    lines = [
        "[Unit]",
        f"Description=Group {one_line(target.name, 80).replace('%', '%%')}, supervised",
        *(wanted if target.autostarted else []),
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return WantedFile(f"{UNITS}/{target.unit}", "\n".join([*lines, ""]), target.source)


def _fitted(instance: Imported, values: Mapping[str, Any], path: str) -> tuple[list[str], list[str], Sequence[str]]:
    """The lines of [Unit] and [Service], with those that the template needs for these values, and notes."""
    checked = {key: kind for key, kind in values.items() if key in FILE_KEYS}
    described = Instance(instance.name, path, checked)
    try:
        for key, value in checked.items():
            FILE_KEYS[key].check(value)
        drop_in = fit(described, check_settings("it", {**described.settings, "listen": described.listen}))
    except (ConfigError, CannotWrap) as error:
        raise CannotImport(f"{instance.where}: {error}") from None
    except ValueError:
        raise CannotImport(f"{instance.where}: {key} must be {FILE_KEYS[key].wanted}.") from None
    unit = [*instance.unit, *drop_in.others]
    return unit, [*instance.service, *drop_in.settings], drop_in.notes


def _split(instance: Imported, service: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables of the unit, and those that only the command may have."""
    becomes_another = "user" in instance.values and not any(line.startswith("User=") for line in service)
    whole = _OF_ITSELF_WHOLE + (_NOT_FOR_ROOT if becomes_another else ())
    environment, beside = dict[str, str](), dict[str, str]()
    for name, value in instance.environment.items():
        is_ours = name.startswith(_OF_ITSELF) or name in whole
        (beside if is_ours or not _VARIABLE.fullmatch(name) else environment)[name] = value
    return environment, beside


def _assignment(variable: tuple[str, str]) -> str:
    """A line of an EnvironmentFile=, systemd.exec(5)."""
    name, value = variable
    escaped = re.sub(r'([\\"$`])', r"\\\1", value)
    return f'{name}="{escaped}"\n'


def in_root(path: str, root: str) -> str:
    """The path of a file below another root."""
    return os.path.join(root, path.lstrip("/")) if root != "/" else path
