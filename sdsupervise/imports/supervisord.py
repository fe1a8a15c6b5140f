"""What supervisord's configuration says, as instances: one for each program, and a target for each group."""

import os
from collections.abc import Iterator, Mapping, Sequence

from ..errors import CannotImport
from ..input.nearest import nearest
from ..input.printable import one_line
from .expansion import of_environment, of_host, with_path
from .imported import MOST_INSTANCES, FoundPrograms, Imported, ImportedTarget, target_of
from .ini import Ini
from .options import SectionOptions
from .supervisord_files import read
from .supervisord_program import FASTCGI, CommonSection, GroupSection, of_program

_PROGRAM, _GROUP = "program:", "group:"
_HARD_FILES = 524288  # the limit that systemd gives a service


def found(files: Sequence[str], variables: Mapping[str, str], prefix: str = "") -> FoundPrograms:
    """All instances and targets of these files. `variables` are known ones of supervisord's environment.

    Raises BadFile for a file that supervisord could not read, CannotImport.
    """
    ini, notes = read(files, variables)
    common = _common(ini, variables)
    refused: list[str] = []
    groups, members = _groups(ini, common, refused)
    programs: list[tuple[tuple[int, int], str, Imported]] = []
    for section in list(ini.sections.values()):
        kind, _, name = section.name.partition(":")
        if f"{kind}:" not in (_PROGRAM, FASTCGI):
            continue
        try:
            of_it = members.get(name.strip(), [])
            if len(of_it) > 1:
                raise CannotImport(
                    f"{section.where}: {one_line(name, 80)} is in {len(of_it)} groups, and supervisord runs it once in "
                    "each; write a [program:] for each of them."
                )
            group = of_it[0] if of_it else None
            priority, instances = of_program(ini, section, common, group, prefix)
            own = (group.priority if group else priority, priority)
            programs += [(own, group.name if group else "", instance) for instance in instances]
        except CannotImport as error:
            refused.append(f"[{one_line(section.name, 80)}]: {error}")
        if len(programs) + len(refused) > MOST_INSTANCES:
            raise CannotImport(
                f"{section.where}: these would be more than {MOST_INSTANCES} instances; import fewer at a time."
            )
    refused += _same_names(programs)
    targets = tuple(_targets(groups, programs))
    if not programs and not refused:
        raise CannotImport(f"{', '.join(files)}: there is no [program:NAME].")
    return FoundPrograms(
        tuple(_placed(programs)), targets, (*notes, *_of_other_sections(ini)), tuple(refused), "supervisorctl stop"
    )


# ------------------------------------------------------------------------------------------- sections beside programs


def _common(ini: Ini, variables: Mapping[str, str]) -> CommonSection:
    """Raises CannotImport for what supervisord refuses."""
    outside = with_path(variables)
    names: dict[str, str | int] = {**of_environment(outside), **of_host()}
    section = ini.sections.get("supervisord")
    if section is None:
        return CommonSection({}, names, None, None, ())
    options = SectionOptions(ini, section, names)
    environment = options.variables()
    files = options.whole("minfds", 1024)
    umask = options.octal("umask")
    service = [f"LimitNOFILE={files}:{max(files, _HARD_FILES)}"] if files > 1024 else []
    service += [f"UMask={umask:04o}"] if umask not in (None, 0o022) else []
    directory = options.text("directory")
    return CommonSection(
        environment,
        {**names, **of_environment(environment)},
        options.text("user"),
        os.path.expanduser(directory) if directory else None,
        tuple(service),
    )


def _groups(
    ini: Ini, common: CommonSection, refused: list[str]
) -> tuple[list[GroupSection], dict[str, list[GroupSection]]]:
    """The groups, and the groups of each program."""
    groups: list[GroupSection] = []
    members: dict[str, list[GroupSection]] = {}
    targets: set[str] = set()
    for section in ini.sections.values():
        if not section.name.startswith(_GROUP):
            continue
        options = SectionOptions(ini, section, common.names)
        try:
            group = GroupSection(
                section.name.removeprefix(_GROUP).strip(), section, options.whole("priority", 999, -(2**31))
            )
            if target_of(group.name) in targets:
                raise CannotImport(f"{section.where}: another group would be {target_of(group.name)}, too; rename one.")
            programs = [name.strip() for name in (options.text("programs") or "").split(",") if name.strip()]
            known = (_PROGRAM, FASTCGI)
            unknown = [name for name in programs if not any(kind + name in ini.sections for kind in known)]
            if unknown:
                meant = nearest(unknown[0], [name.partition(":")[2] for name in ini.sections])
                hint = f"; did you mean {meant}?" if meant else "."
                where = options.where("programs")
                raise CannotImport(f"{where}: there is no [program:{one_line(unknown[0], 80)}]{hint}")
        except CannotImport as error:
            refused.append(f"[{one_line(section.name, 80)}]: {error}")
            continue
        groups.append(group)
        targets.add(target_of(group.name))
        for name in dict.fromkeys(programs):
            members.setdefault(name, []).append(group)
    return groups, members


def _of_other_sections(ini: Ini) -> Iterator[str]:
    """A note for each section that becomes nothing."""
    for section in ini.sections.values():
        name, kind = one_line(section.name, 80), section.name.partition(":")[0]
        if section.name in ("supervisord", "include") or kind in ("program", "fcgi-program", "group"):
            continue
        if kind == "eventlistener":
            what = (
                "is not imported: no program here gets supervisord's events. notify_command is a command that runs "
                "after an event, and 'sdsupervise status --json' and the journal say the rest"
            )
        elif kind in ("unix_http_server", "inet_http_server", "supervisorctl", "rpcinterface", "ctlplugin"):
            what = "is not imported: systemctl and sdsupervise take the place of supervisorctl"
        else:
            what = "is no section of supervisord, which ignores it"
        yield f"{section.where}: [{name}] {what}."
    section_of_all = ini.sections.get("supervisord")
    if section_of_all is not None:
        left = [
            key for key in section_of_all.values if key not in ("environment", "user", "directory", "umask", "minfds")
        ]
        if left:
            yield f"{section_of_all.where}: {', '.join(left)}: not imported, because this is about supervisord itself."


def _targets(
    groups: Sequence[GroupSection], programs: Sequence[tuple[tuple[int, int], str, Imported]]
) -> Iterator[ImportedTarget]:
    for group in groups:
        members = [instance for _, name, instance in programs if name == group.name]
        if members:
            started = tuple(instance.name for instance in members if instance.autostart)
            names = tuple(instance.name for instance in members)
            yield ImportedTarget(group.name, group.section.where, group.section.file, names, started)


def _same_names(programs: list[tuple[tuple[int, int], str, Imported]]) -> Iterator[str]:
    """Take out what has the name of an instance before it, each with a sentence."""
    first: dict[str, Imported] = {}
    for entry in list(programs):
        instance = entry[2]
        other = first.setdefault(instance.name, instance)
        if other is not instance:
            programs.remove(entry)
            yield f"{instance.where}: an instance is called {instance.name} already, by {other.where}; rename one."


def _placed(programs: Sequence[tuple[tuple[int, int], str, Imported]]) -> Iterator[Imported]:
    """The instances with their places in groups, and in the order of priorities."""
    for own, group, instance in programs:
        lines, notes = list(instance.unit), list(instance.notes)
        if group:
            lines.append(f"PartOf={target_of(group)}")
        before = [f"sdsupervise@{other.name}.service" for rank, _, other in programs if rank < own]
        if before:
            lines.append(f"After={' '.join(before)}")
            notes.append("priority: it starts when those with a lower priority are ready, and stops before them")
        yield instance._replace(unit=tuple(lines), notes=tuple(notes))
