"""A program of supervisord, as instances: one, or one for each process where the processes differ."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import CannotImport
from ..input.nearest import nearest
from ..input.printable import one_line
from ..linux.writers import who_else_may_write
from ..settings.settings import STOP_SIGNALS
from ..unitfiles.lifecycle import OUR_STATUSES
from . import fastcgi, known_programs
from .expansion import PATH, Names, expand, of_environment
from .imported import MOST_INSTANCES, Imported, instance_name
from .ini import Ini, IniSection, IniValue
from .options import SectionOptions

FASTCGI = "fcgi-program:"
_LOGS = ("stdout_logfile", "stderr_logfile")
_OF_LOGS = (
    *(
        f"{stream}_{what}"
        for stream in ("stdout", "stderr")
        for what in ("logfile_maxbytes", "logfile_backups", "syslog")
    ),
    *("redirect_stderr", *_LOGS),
)
_NO_COUNTERPART = (
    *("stdout_capture_maxbytes", "stdout_events_enabled", "stderr_capture_maxbytes", "stderr_events_enabled"),
    "serverurl",
)
_KNOWN = (
    *("command", "process_name", "numprocs", "numprocs_start", "priority", "autostart", "autorestart", "startsecs"),
    *("startretries", "exitcodes", "stopsignal", "stopwaitsecs", "stopasgroup", "killasgroup", "user", "environment"),
    *("directory", "umask", *_OF_LOGS, *_NO_COUNTERPART),
)
_VARYING = ("command", "directory", "environment")  # what makes processes instances of their own
_MOST_PROCESSES = 10_000  # of one program, as the setting workers
_MOST_OF_NAME = 255  # letters of the name of a process
_READY_AT_ONCE = 0.1  # seconds; 0 would mean that the program sends READY=1
_RESPAWN_SECONDS = 1  # supervisord looks once a second


class CommonSection(NamedTuple):
    """What [supervisord] says for all programs."""

    environment: Mapping[str, str]
    names: Names
    user: str | None
    directory: str | None
    service: tuple[str, ...]  # lines for each unit


class ProcessOfProgram(NamedTuple):
    """One process of a program, as supervisord would start it."""

    name: str
    words: tuple[str, ...]
    directory: str | None
    environment: Mapping[str, str]


class GroupSection(NamedTuple):
    """A [group:x]."""

    name: str
    section: IniSection
    priority: int


def of_program(
    ini: Ini, section: IniSection, common: CommonSection, group: GroupSection | None, prefix: str
) -> tuple[int, list[Imported]]:
    """The priority of a program, and its instances. Raises CannotImport."""
    name = section.name.partition(":")[2].strip()
    if not name or any(letter in name for letter in " :/"):
        raise CannotImport(
            f"{section.where}: [{one_line(section.name, 80)}] must name a program, without ' ', ':', '/'."
        )
    of_group = group.name if group else name
    names: Names = {**common.names, "program_name": name, "group_name": of_group, "numprocs": 1, "process_num": 0}
    options = SectionOptions(ini, section, names)
    notes: list[str] = []
    values = _values(options, notes)
    is_fastcgi = section.name.startswith(FASTCGI)
    processes = _processes(options, common, is_fastcgi=is_fastcgi)
    named: list[tuple[str, ...]] = [(f"{of_group}:{process.name}",) for process in processes]
    if all(process[1:] == processes[0][1:] for process in processes):
        values |= {"workers": len(processes)} if len(processes) > 1 else {}
        all_names = tuple(word for words in named for word in words)
        named = [all_names if group else (name if len(processes) == 1 else f"{name}:*",)]
        processes = [processes[0]._replace(name="")]
    elif is_fastcgi:
        raise CannotImport(
            f"{section.where}: its processes share one socket, so %(process_num)d may only be in its command, as it is."
        )
    notes += _of_keys(options, is_fastcgi)
    user = _user(options, common, notes)
    instances = []
    for process, name_there in zip(processes, named, strict=True):
        said = list(notes)
        own = _command(options, process, values, said, user=user.get("user", ""), is_fastcgi=is_fastcgi)
        final = _final_statuses(options, own.get("workers", 1), said)
        successes = [f"SuccessExitStatus={' '.join(str(code) for code in final if code)}"] if any(final) else []
        instance = Imported(
            _instance_name(options, prefix + _own_name(name, process.name), said),
            section.where,
            section.file,
            {**own, **user, **({"restart_prevent": final} if final else {})},
            process.environment,
            service=(*_service(options, common), *successes),
            notes=tuple(said),
            autostart=options.flag("autostart", True),
            named=name_there,
        )
        instances.append(instance)
    return options.whole("priority", 999, -(2**31)), instances


def _final_statuses(options: SectionOptions, workers: int, notes: list[str]) -> list[int]:
    """The exit statuses after which supervisord leaves a program stopped, as far as an instance can; with notes."""
    if options.autorestart() != "unexpected" or not (codes := sorted(set(options.exit_codes()))):
        return []
    if workers != 1:
        notes.append(
            f"autorestart is unexpected: after exit status {_words_or(codes)}, supervisord leaves this one process "
            "stopped; here it starts again, because restart_prevent would stop all of them"
        )
        return []
    ours = [code for code in codes if code in OUR_STATUSES]
    if ours:
        notes.append(
            f"autorestart is unexpected, but after exit status {_words_or(ours)} it starts again: a supervisor that "
            "fails exits with it, too"
        )
    final = [code for code in codes if code not in OUR_STATUSES]
    if final:
        notes.append(
            f"autorestart is unexpected: after exit status {_words_or(final)} the service ends, also within startsecs, "
            "when supervisord would try again"
        )
    return final


def _words_or(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last


def _instance_name(options: SectionOptions, wanted: str, notes: list[str]) -> str:
    """The name of an instance, with a note if it is another. Raises CannotImport if there is none."""
    name = instance_name(wanted, options.section.where)
    if name != wanted:
        notes.append(f"{one_line(wanted, 80)} is called {name} here")
    return name


def _service(options: SectionOptions, common: CommonSection) -> tuple[str, ...]:
    """The lines of [Service]: the program's own umask goes before that of all."""
    umask = options.octal("umask")
    if umask is None:
        return common.service
    return (*(line for line in common.service if not line.startswith("UMask=")), f"UMask={umask:04o}")


def _own_name(program: str, process: str) -> str:
    """The name of an instance, which begins with that of the program."""
    return process if process.startswith(program) else f"{program}-{process}".rstrip("-")


def _processes(options: SectionOptions, common: CommonSection, *, is_fastcgi: bool) -> list[ProcessOfProgram]:
    """Every process of a program. Raises CannotImport."""
    count, start = options.whole("numprocs", 1, 1), options.whole("numprocs_start", 0)
    if count > _MOST_PROCESSES:
        raise CannotImport(f"{options.where('numprocs')}: numprocs is {count}; {_MOST_PROCESSES} are possible.")
    command = options.value("command")
    if command is None:
        raise CannotImport(f"{options.section.where}: [{one_line(options.section.name, 80)}] has no command.")
    if is_fastcgi:
        command = command._replace(text=fastcgi.numbered(command.text))
    template = options.value("process_name") or IniValue("%(program_name)s", *options.section[1:3])
    if count > 1 and "%(process_num)" not in template.text:
        raise CannotImport(
            f"{template.where}: numprocs is {count}, so process_name must have %(process_num)s in it, as supervisord "
            "demands."
        )
    differ = any("process_num" in value.text for key in _VARYING if (value := options.value(key)))
    if differ and count > MOST_INSTANCES:
        raise CannotImport(f"{options.where('numprocs')}: these are more than {MOST_INSTANCES} instances.")
    found: list[ProcessOfProgram] = []
    names: dict[str, str | int] = {}
    for number in range(start, start + count):
        if found and not differ:
            names["process_num"] = number
            found.append(found[0]._replace(name=expand(template, names, most=_MOST_OF_NAME).strip()))
            continue
        names = {**options.names, "numprocs": count, "process_num": number}
        environment = options.variables(names)
        names |= of_environment(environment)
        environment = {**common.environment, **environment}
        directory = options.value("directory")
        found.append(
            ProcessOfProgram(
                expand(template, names, most=_MOST_OF_NAME).strip(),
                _words(command, expand(command, names)),
                expand(directory, names) if directory else common.directory,
                environment,
            )
        )
    return found


def _words(command: IniValue, text: str) -> tuple[str, ...]:
    """The words of a command, as supervisord splits it. Raises CannotImport."""
    cut = " supervisord cuts a value at a blank and a ';' or '#', even within quotes." if command.cut else ""
    try:
        words = shlex.split(text)
    except ValueError as error:
        what = "a quotation mark is not closed" if "quot" in str(error) else "it ends with a backslash"
        raise CannotImport(f"{command.where}: command is no command line: {what}.{cut}") from None
    if not words or not words[0] or "\0" in text:
        raise CannotImport(f"{command.where}: command is empty.{cut}")
    return tuple(words)


def _values(options: SectionOptions, notes: list[str]) -> dict[str, Any]:
    """The keys of an instance that follow from single options, with notes. Raises CannotImport."""
    restart = options.autorestart()
    if restart == "false":
        raise CannotImport(
            f"{options.where('autorestart')}: autorestart is false, but an instance always runs: a command that ends "
            "is started again. If it shall run once, write a unit with Type=oneshot; if it shall always run, write "
            "autorestart=true."
        )
    seconds = options.whole("startsecs", 1)
    values: dict[str, Any] = {
        "ready_after": seconds or _READY_AT_ONCE,
        "delay_before_respawn": _RESPAWN_SECONDS,
        "stop_timeout": options.whole("stopwaitsecs", 10),
    }
    if seconds >= 60:
        values |= {"start_timeout": seconds + 30, "reload_timeout": seconds + 30}
    as_group = options.flag("stopasgroup", False)
    if as_group and not options.flag("killasgroup", True):
        raise CannotImport(
            f"{options.where('killasgroup')}: supervisord refuses killasgroup=false with stopasgroup=true."
        )
    values |= {"kill_mode": "group"} if as_group else {}
    number = options.stop_signal()
    if number == "SIGKILL":
        values["stop_timeout"] = 0
        notes.append("stopsignal was KILL: it gets SIGTERM, and SIGKILL at once after that")
    elif number not in STOP_SIGNALS:
        raise CannotImport(
            f"{options.where('stopsignal')}: stopsignal is {number.removeprefix('SIG')}; a command can be stopped by "
            f"{', '.join(name.removeprefix('SIG') for name in STOP_SIGNALS)} or KILL."
        )
    elif number != "SIGTERM":
        values["stop_signal"] = number
    return values


def _of_keys(options: SectionOptions, is_fastcgi: bool) -> Iterator[str]:
    """A note for each option that has no counterpart, or a different one."""
    logs = dict.fromkeys(value.text for key in _LOGS if (value := options.value(key)))
    if any("/" in log and log != "/dev/null" for log in logs):
        yield f"its output goes to the journal, no longer to {' and '.join(one_line(log, 200) for log in logs)}"
    elif any(log.lower() in ("none", "off", "/dev/null") for log in logs):
        yield "its output was thrown away, and goes to the journal now"
    if not options.flag("autostart", True):
        yield "autostart was false: start it with systemctl, and do not enable it"
    for key, value in options.section.values.items():
        if "%(ENV_PATH)" in value.text and options.names["ENV_PATH"] == PATH:
            yield f"%(ENV_PATH)s in {key} becomes {PATH}; use --env PATH=VALUE for another one"
    retries = options.value("startretries")
    if retries is not None:
        yield (
            f"startretries was {one_line(retries.text, 20)}: a command that fails is started again without end, with "
            "waits of up to 30 s, and 'sdsupervise status' shows the crash loop"
        )
    for key in _NO_COUNTERPART:
        value = options.value(key)
        if value is not None and value.text.lower() not in ("0", "false", "no", "off", "auto"):
            yield f"{key} has no counterpart"
    known = (*_KNOWN, *fastcgi.OPTIONS) if is_fastcgi else _KNOWN
    for key in options.section.values:
        if key not in known:
            meant = nearest(key, known)
            hint = f"; did it mean {meant}?" if meant else ""
            yield f"{options.where(key)}: {one_line(key, 60)} is no option of supervisord, which ignores it{hint}"


def _user(options: SectionOptions, common: CommonSection, notes: list[str]) -> dict[str, str]:
    user = options.text("user") or common.user
    if user not in (None, "root", "0"):
        return {"user": str(user)}
    who = who_else_may_write(options.section.file)
    notes.append(f"it runs as root{f', and {who}: whoever may write it becomes root' * bool(who)}")
    return {}


def _command(
    options: SectionOptions,
    process: ProcessOfProgram,
    values: Mapping[str, Any],
    notes: list[str],
    *,
    user: str,
    is_fastcgi: bool,
) -> dict[str, Any]:
    """All keys of an instance but its user. Raises CannotImport."""
    result: dict[str, Any] = {"command": [known_programs.escaped(word) for word in process.words], **values}
    if process.directory:
        if not process.directory.startswith("/"):
            raise CannotImport(
                f"{options.where('directory')}: directory is {one_line(process.directory, 200)!r}, relative to where "
                "supervisord was started; write an absolute path."
            )
        result["directory"] = process.directory
    listener = fastcgi.listener(options) if is_fastcgi else None
    adapted = {}
    if not fastcgi.is_numbered(process.words):
        adapted = known_programs.adapted(
            *(process.words, notes),
            directory=process.directory or "",
            environment=process.environment,
            stop_seconds=values["stop_timeout"] + 10,
            user=user,
            addresses=[f"{fastcgi.NAME}={listener['address']}"] if listener else (),
        )
    if adapted:
        result.pop("ready_after")
        adapted.setdefault("stop_signal", result.get("stop_signal", "SIGTERM"))
        adapted["stop_timeout"] = max(adapted.get("stop_timeout", 30), result["stop_timeout"])
        adapted["workers"] = adapted.get("workers", 1) * result.get("workers", 1)
        result |= adapted
    if listener:
        more = result.get("listen", {}).get(fastcgi.NAME)
        result["listen"] = {fastcgi.NAME: {**(more if isinstance(more, dict) else {}), **listener}}
        if not adapted:
            result["command"] = fastcgi.on_descriptor_0(result["command"], options.whole("numprocs_start", 0))
    return result
