"""What of the manual pages is made from the code, as reStructuredText: so it cannot go stale."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import api
import monitoring
import processes
import states
from markup import defined, escaped, literal, sentence

import sdsupervise
from sdsupervise.child import protocol
from sdsupervise.cli import commands
from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import State
from sdsupervise.errors import ExitStatus
from sdsupervise.instances.keys import FILE_KEYS
from sdsupervise.settings.kinds import Kind
from sdsupervise.settings.settings import KINDS, Settings, in_words

_TREE = Path(__file__).parents[2]
_DAY = 86400
_COLUMNS = 68  # of a block in a page of 80


# ------------------------------------------------------------------------------------------------ the command line


def command_list() -> str:
    """Every command as its --help has it: its usage, what it does, and its options.

    Rejected: argparse-manpage. It makes none of the other parts of these pages, breaks the lines of usage statements
    anew, and leaves out what stands below the options. Debian 12 and 13 have it with different names and output.
    """
    return "".join(_command(parser) for parser in commands.parser().each() if not parser.commands)


def _command(parser: commands.Parser) -> str:
    usage, *blocks = parser.format_help().replace(" [-h]", "").split("\n\n")
    usages = re.split(rf"\n +(?={re.escape(parser.prog)} )", usage.removeprefix("usage: "))
    words = parser.prog.partition(" ")[2]
    paragraphs = [*(_marked_up(" ".join(usage.split())) for usage in usages), *map(_paragraph, blocks)]
    return "\n\n".join([f"{words}\n{'~' * len(words)}", *paragraphs, ""])


def _paragraph(block: str) -> str:
    """Text, or what stands below a heading: a line for each argument, which ends in its meaning or has it below."""
    heading, *lines = block.rstrip().split("\n")
    if not heading.endswith(":") and not heading.startswith("  "):
        return escaped(block)
    text = "\n".join(lines if heading.endswith(":") else [heading, *lines])
    found = re.findall(r"^  ([-A-Z].*?)(?: {2,}|\n {24})(.*)$", text, re.MULTILINE)
    return "".join(defined(_marked_up(term), escaped(sentence(meaning))) for term, meaning in found if term[:2] != "-h")


def _marked_up(usage: str) -> str:
    """What is typed as it stands in bold, what stands for something else in italics."""
    words = []
    for word in usage.split(" "):
        before, core, after = re.fullmatch(r"(\[*)(.*?)([],]*)", word).groups()  # type: ignore[union-attr]
        if not core or not re.search(r"\w", core):
            marked = escaped(core)
        elif core[0].isupper():
            marked = f"*{escaped(core)}*"
        else:
            marked = f"**{escaped(core)}**"
        words.append(f"{before}{marked}{after}")
    return " ".join(words)


def exit_statuses() -> str:
    """Every exit status and what it means."""
    meanings = ((status.value, sentence(status.meaning.replace("`", ""))) for status in ExitStatus)
    return "".join(defined(f"**{value}**", escaped(meaning)) for value, meaning in meanings)


# -------------------------------------------------------------------------------------------------------- settings


def file_keys() -> str:
    """What a file may say beside the settings."""
    return "".join(_key(name, kind) for name, kind in FILE_KEYS.items() if name not in KINDS)


def _key(name: str, kind: Kind) -> str:
    text = [sentence(kind.meaning), sentence(_may_be(kind))][: 1 if kind.form == "text" else 2]
    text += ["For classes only."] * (kind.only_for == "class")
    return defined(f"**{escaped(name)}**", escaped(" ".join(text)))


def settings() -> str:
    """Every setting with what it may be, its default, and what it means."""
    return "".join(_setting(name, kind) for name, kind in KINDS.items())


def _setting(name: str, kind: Kind) -> str:
    facts = f"{sentence(_may_be(kind))} Default: {_default(name)}."
    if kind.only_for == "command":
        facts += " For commands only."
    return defined(f"**{escaped(name)}**", escaped(sentence(kind.meaning)), escaped(facts))


def _default(name: str) -> str:
    value = Settings._field_defaults[name]
    return in_words(value) if isinstance(value, str) or value == () or isinstance(value, bool) else f"{value:g}"


def _may_be(kind: Kind) -> str:
    match kind.form:
        case "seconds":
            return f"seconds, {kind.low:g} to {kind.high / _DAY:g} days"
        case "whole number":
            return f"a whole number, {kind.low:g} to {kind.high:g}"
        case "choice":
            return "one of " + ", ".join(f'"{word}"' for word in kind.choices)
        case "count":
            return f'a whole number, {kind.low:g} to {kind.high:g}, or "auto"'
        case _:
            return kind.wanted


# ---------------------------------------------------------------------------------------------------------- states


def state_list() -> str:
    """Every state with the sentence that STATUS= begins with, and how long it may last."""
    return "".join(
        f"{sentence(role)[:-1]}:\n\n{''.join(map(_state, members))}" for role, members in states.ROLES.items()
    )


def _state(state: State) -> str:
    limit = states.deadline(state)
    facts = [f'"{states.sentence(state)}"', f"{PHASES[state].main_state} to systemd"]
    if limit:
        facts.append(f"{'older generations have' if state is State.SERVING else 'at most'} {limit}")
    return defined(f"**{states.name(state)}**", escaped("; ".join(facts) + "."))


def state_sentences() -> str:
    """Every state with the sentence that STATUS= begins with."""
    return "".join(
        f"{sentence(role)[:-1]}:\n\n"
        + "".join(defined(f"**{states.name(state)}**", escaped(f"{states.sentence(state)}.")) for state in members)
        for role, members in states.ROLES.items()
    )


def way_list() -> str:
    """Every way from a state to the next: what happens, where it leads, what is done."""
    return "".join(_ways(state) for state in State if states.ways(state))


def _ways(state: State) -> str:
    lines = []
    for event, rule in states.ways(state):
        lines.append(f"{states.event_words(state, event):40}-> {states.name(rule.next)}")
        lines += textwrap.wrap(
            states.effect_words(state, rule), _COLUMNS - 6, initial_indent="    ", subsequent_indent="    "
        )
    return f"**{states.name(state)}**, {states.role_of(state)}\n\n{literal(chr(10).join(lines))}\n"


# ----------------------------------------------------------------------------------------------------------- units


def unit(name: str) -> str:
    """A unit of ours as it stands."""
    parts = re.split(r"((?:^# .*\n)+)", (_TREE / "units" / name).read_text(), flags=re.MULTILINE)
    return literal("".join(_wrapped_comment(part) if part.startswith("#") else _continued(part) for part in parts))


def _wrapped_comment(comment: str, indentation: str = "") -> str:
    text = re.sub(r"^ *# ", "", comment, flags=re.MULTILINE)
    sign = f"{indentation}# "
    return textwrap.fill(text, _COLUMNS, initial_indent=sign, subsequent_indent=sign) + "\n"


def _continued(text: str) -> str:
    """Long lines go on in the next one, as systemd reads them."""
    lines = (textwrap.wrap(line, _COLUMNS - 2) or [""] for line in text.split("\n"))
    return "\n".join(" \\\n".join(wrapped) for wrapped in lines)


def unit_reasons(name: str) -> str:
    """The settings of a unit that have a comment above them, with that."""
    text = (_TREE / "units" / name).read_text().partition("[Service]\n")[2]
    found = re.findall(r"((?:^# .*\n)+)((?:^[A-Z]\w+=.*\n)+)", text, re.MULTILINE)
    return "".join(_reasoned(lines.split("\n"), comment) for comment, lines in found)


def _reasoned(settings: Sequence[str], comment: str) -> str:
    reason = re.sub(r"^# |`", "", comment, flags=re.MULTILINE)
    return defined(", ".join(f"**{escaped(setting)}**" for setting in settings if setting), escaped(reason))


def reload_applies() -> str:
    """What applies a change of a unit; tests hold the table of packaging/doc/systemd.md."""
    page = (_TREE / "packaging" / "doc" / "systemd.md").read_text()
    table = page.partition("<!-- reload-applies -->")[2].partition("<!--")[0]
    _title, _line, *rows = re.findall(r"^\|(.*)\|(.*)\|$", table, re.MULTILINE)
    return "".join(defined(f"**{by.strip()}**", escaped(settings.replace("`", ""))) for settings, by in rows)


# ------------------------------------------------------------------------------------------------------ monitoring


def process_list() -> str:
    """How each process is shown, and what it is."""
    return "".join(
        defined(
            f"**{escaped(row.title)}**, {escaped(row.short_name)}", escaped(sentence(row.meaning.replace("`", "'")))
        )
        for row in processes.rows()
    )


def journal_fields() -> str:
    """The fields of an entry in the journal."""
    rows = re.findall(r"^(SDS[A-Z_, ]*|MESSAGE_ID)(?: {2,}(.*))?$", monitoring.fields(), re.MULTILINE)
    names = [", ".join(f"**{name}**" for name in re.split(", ", names.strip())) for names, _ in rows]
    meanings = [sentence((meaning or "of a worker").replace("`", "'")) for _, meaning in rows]
    return "".join(defined(name, escaped(meaning)) for name, meaning in zip(names, meanings, strict=True))


def event_list() -> str:
    """Every event with its MESSAGE_ID and what it is about."""
    return "".join(
        defined(f"**{event.word}** {event.message_id}", escaped(sentence(event.subject)))
        for event in monitoring.every_event()
    )


def notify_variables() -> str:
    """What notify_command finds in its environment."""
    return "".join(
        defined(f"**${name}**", escaped(sentence(meaning.replace("`", "'"))))
        for name, meaning in monitoring.variables().items()
    )


def metric_list() -> str:
    """Every metric with its labels; all have one more, instance."""
    return "".join(
        defined(f"**{escaped(name)}**" + f" {{*{'*, *'.join(labels)}*}}" * bool(labels), escaped(meaning))
        for name, labels, meaning in monitoring.every_metric()
    )


# ----------------------------------------------------------------------------------------------- what is said to us


def interface_text(name: str) -> str:
    """A Varlink interface in its own words, as wide as a page."""
    text = (Path(sdsupervise.__file__).parent / "control" / f"{name}.varlink").read_text()
    paragraphs = re.split(r"((?:^ *#.*\n)+)", text, flags=re.MULTILINE)
    return literal("".join(map(_as_wide_as_a_page, paragraphs)))


def _as_wide_as_a_page(part: str) -> str:
    """Comments, or lines of code that may be broken behind a comma."""
    indentation = re.match(r" *", part)[0]  # type: ignore[index]
    if part.startswith(f"{indentation}#"):
        return _wrapped_comment(part, indentation)
    glued = re.sub(r"(?<=[^,\s]) ", "\0", part)
    lines = (textwrap.wrap(line, _COLUMNS, subsequent_indent="  ") or [""] for line in glued.split("\n"))
    return "\n".join(line for wrapped in lines for line in wrapped).replace("\0", " ")


def link_lines() -> str:
    """The lines of a worker's link, as protocol.py has them."""
    (table,) = re.findall(r"(?<=\n\n)    .*?(?=\n\n)", protocol.__doc__ or "", re.DOTALL)
    return literal(inspect.cleandoc(table))


PARTS: Mapping[str, Callable[..., str]] = {
    "commands": command_list,
    "exit-statuses": exit_statuses,
    "settings": settings,
    "file-keys": file_keys,
    "unit": unit,
    "unit-reasons": unit_reasons,
    "reload-applies": reload_applies,
    "processes": process_list,
    "journal-fields": journal_fields,
    "events": event_list,
    "notify-variables": notify_variables,
    "metrics": metric_list,
    "states": state_list,
    "state-sentences": state_sentences,
    "ways": way_list,
    "interface": interface_text,
    "link": link_lines,
    "about": api.about,
    "methods": api.methods,
    "defaults": api.defaults,
    "built-in-options": api.built_in_options,
}
