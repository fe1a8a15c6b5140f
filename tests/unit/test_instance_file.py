"""Reading the file of an instance: everything that is wrong is said, each with its place."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from sdsupervise.errors import BadFile, ConfigError, UsageError
from sdsupervise.input.printable import printable
from sdsupervise.instances import example, instance_file, instance_reader, locations
from sdsupervise.instances.keys import DEFAULTS, EXAMPLES, FILE_KEYS, ONLY_FOR_CLASSES, ONLY_FOR_COMMANDS
from sdsupervise.settings.settings import KINDS, Settings

EXAMPLE = Path(__file__).parents[2] / "packaging" / "example.toml"
SERVICE = 'service = "app.py:App"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of an instance, whose service stands beside it."""
    (tmp_path / "app.py").touch()
    (tmp_path / "program").touch(0o755)
    (tmp_path / "no_program").touch(0o644)
    return tmp_path / "app.toml"


def mistakes(file: Path, text: str | bytes) -> list[str]:
    """Of a file with this text, as LINE:COLUMN: sentence; "app.toml" is it, and "HERE" its directory."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadFile) as raised:
        instance_file.read(str(file), started_in=str(file.parent))
    assert all(mistake.startswith(f"{file}:") for mistake in raised.value.mistakes)
    assert str(raised.value).startswith(raised.value.mistakes[0])
    return [mistake.removeprefix(f"{file}:").replace(str(file.parent), "HERE") for mistake in raised.value.mistakes]


WRONG: Mapping[str, tuple[str | bytes, str]] = {
    "unknown": (SERVICE + "stop_timout = 3", "2:1: There is no key stop_timout; did you mean stop_timeout?"),
    "unlike any": (SERVICE + "qqq = 3", "2:1: There is no key qqq; sdsupervise.toml(5) has them all."),
    "case": (SERVICE + "  Handover = 'overlap'", "2:3: There is no key Handover; did you mean handover?"),
    "dashes": (SERVICE + "before-commit = []", "2:1: There is no key before-commit; did you mean before_commit?"),
    "quoted": (SERVICE + '"a \\n b" = 1', '2:1: There is no key "a \\n b"; sdsupervise.toml(5) has them all.'),
    "a table": (
        SERVICE + "[settings]\nworkers = 2",
        "2:2: There is no key settings; put all keys at the top of the ",
    ),
    "type": (SERVICE + "stop_timeout = '30'", '2:16: stop_timeout is "30"; it must be a number of seconds from 0 to 3'),
    "flag": (SERVICE + "no_warn = 1", "2:11: no_warn is 1; it must be true or false (print no warnings)."),
    "not a number": (SERVICE + "probation = nan", "2:13: probation is nan; it must be a number"),
    "infinite": (SERVICE + "probation = inf", "2:13: probation is inf; it must be a number"),
    "huge": (SERVICE + f"crash_limit = 0x{'f' * 9000}", "2:15: crash_limit is 0xfffff"),
    "date": (SERVICE + "workers = 2026-11-26", "2:11: workers is 2026-11-26; it must be 'auto' or a whole number"),
    "range": (SERVICE + "workers = 0", "2:11: workers is 0; it must be"),
    "choice": (SERVICE + "handover = 'both'", "2:12: handover is \"both\"; it must be 'exclusive' or 'overlap'"),
    "word": (SERVICE + "before_commit = ['a', 1]", '2:17: before_commit is ["a", 1]; it must be a list of words'),
    "list": (SERVICE + "arguments = 'one'", '2:13: arguments is "one"; it must be a list of words'),
    "empty": (SERVICE + "directory = ''", '2:13: directory is ""; it must be a text that is not empty'),
    "user": (SERVICE + "user = 'no such'", '2:8: There is no user "no such" on this host.'),
    "group": (SERVICE + "group = 4294967294", '2:9: There is no group "4294967294" on this host.'),
    "no service": ("handover = 'overlap'", "1:1: Nothing to run: set either service (a class) or command."),
    "nothing": ("", "1:1: Nothing to run: set either service (a class) or command."),
    "two services": (SERVICE + "command = ['./program']", "2:1: Nothing to run: set either service (a class) or comma"),
    "empty command": ("command = []", "1:11: command is empty; write a program, and its arguments."),
    "of a command": (
        SERVICE + "ready_after = 1",
        "2:1: ready_after is for a command, but this instance runs a service.",
    ),
    "of a class": (
        "command = ['./program']\narguments = []",
        "2:1: arguments is for a service, but this instance runs a command.",
    ),
    "no directory": (SERVICE + "directory = 'x/y'", "2:13: There is no directory HERE/x/y."),
    "no file": ("service = 'x/app.py:App'", "1:11: There is no file HERE/x/app.py."),
    "no python": (SERVICE + "python = './python'", "2:10: There is no program HERE/python."),
    "no command": (
        "command = [\n  'no-such-program',\n  '-x',\n]",
        "2:3: There is no program no-such-program in PATH (",
    ),
    "no check": (SERVICE + "before_commit = ['./check', 'x']", "2:18: There is no program HERE/check."),
    "no program": ("command = ['./no_program']", "1:12: HERE/./no_program is not executable for uid"),
    "listen": (SERVICE + "listen = 8000", "2:10: listen is 8000; it must be a table of names and addresses, such as"),
    "address": (SERVICE + "listen.http = 'x'", "2:15: listen 'http': 'x' is not an address; write"),
    "port": (SERVICE + "listen.http = 70000", "2:15: listen 'http': '70000' has no port from 1 to 65535 at its end."),
    "no address": (SERVICE + "listen.a = { backlog = 3 }", "2:12: listen 'a' has no address; write"),
    "option": (
        SERVICE + "[listen.a]\naddress = '/x'\nreuse-port = true",
        "4:1: There is no key reuse-port; did you me",
    ),
    "option's type": (
        SERVICE + "[listen.a]\naddress = '/x'\nmode = '9'",
        "4:8: listen 'a': mode is '9'; it must be octal",
    ),
    "mode of a port": (
        SERVICE + "[listen.a]\naddress = '1'\nmode = '600'",
        "4:8: listen 'a' has a mode, user or group, ",
    ),
    "owner": (
        SERVICE + "listen.a = { address = '/x', user = 'no such' }",
        "2:37: listen 'a': there is no user 'no such'",
    ),
    "name": (SERVICE + "listen.'a:b' = 80", "2:8: listen has the name 'a:b'; it must be ASCII without ':'"),
    "same address": (
        SERVICE + "listen.a = '1.2.3.4:5'\nlisten.b = '1.2.3.4:5'",
        "3:12: listen 'a' and 'b' have the same address, 1.2.3.4:5.",
    ),
    "two spellings of a path": (
        SERVICE + "listen.a = '/run/no/x'\nlisten.b = '/run/no/../no/x'",
        "3:12: listen 'a' and 'b' have the same address, /run/no/../no/x (/run/no/x).",
    ),
    "lanes": (
        SERVICE + "handover = 'exclusive'\nlisten.a = { address = '1', lanes = true }",
        "3:37: listen 'a' has lanes, which are for handover overlap;",
    ),
    "too few": (
        SERVICE + "workers = 4\nmax_workers = 2",
        "3:15: max_workers is 2, and workers is 4; it must be at least that number.",
    ),
    "lanes of a command": (
        "command = ['./program']\nlisten.a = { address = '1', lanes = true }",
        "2:37: listen 'a' has ",
    ),
    "no value": (SERVICE + "handover =", "2:11: This is not TOML: invalid value."),
    "no quotes": ("service = app.py:App", "1:11: This is not TOML: invalid value; put a text in quotation marks."),
    "twice": (SERVICE + SERVICE, "2:23: This is not TOML: cannot overwrite a value."),
    "unclosed": (SERVICE + "command = [", "2:12: This is not TOML: invalid value."),
    "digits": (SERVICE + f"workers = {'9' * 5000}", "1:1: A number in it has too many digits."),
    "nested": (SERVICE + f"workers = {'[' * 5000}", "1:1: Its values are nested too deeply."),
    "latin-1": (SERVICE.encode() + b"user = '\xe9'", "2:1: This line is not in UTF-8."),
    "null": (SERVICE + "user = '\0'", "2:9: This is not TOML: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(file: Path, case: str) -> None:
    """In one sentence, with the line and the column where it stands."""
    text, sentence = WRONG[case]
    (found,) = mistakes(file, text)
    assert found.startswith(sentence)
    assert found.endswith((".", "?")) and "\n" not in found


def test_all_that_is_wrong_is_said(file: Path) -> None:
    """Not only what comes first; in the order of the file."""
    text = "\n".join(str(WRONG[case][0]).partition("\n")[2] for case in ("case", "choice", "user"))
    found = mistakes(file, f"{SERVICE}{text}\nlisten.a = {{ address = '/x', mode = 9999, grup = 'x', backlog = 0 }}\n")
    assert [mistake.partition(": ")[0] for mistake in found] == ["2:3", "3:12", "4:8", "5:37", "5:43", "5:65"]
    file.write_text(f"{SERVICE}{text}\n")
    with pytest.raises(BadFile, match=r"did you mean handover\? \(And 2 more mistakes in this file\.\)$"):
        instance_file.read(str(file), started_in=str(file.parent))


@pytest.mark.parametrize("text", [SERVICE, SERVICE.replace("\n", "\r\n"), f"\ufeff{SERVICE}", f"# größe\n{SERVICE}"])
def test_what_editors_write(file: Path, text: str) -> None:
    """Other systems' line ends and a byte order mark do no harm; places are told as if they were not there."""
    file.write_bytes(text.encode())
    assert instance_file.read(str(file), started_in=str(file.parent)).values == {"service": "app.py:App"}
    (found,) = mistakes(file, f"{text}workers = 0")
    assert re.match(r"[23]:11: workers", found)


def test_what_it_says(file: Path) -> None:
    """Values are those that a class's attributes, or options, would have; the directory is absolute, by where the file
    stands; `listen` is as it stands there, for each name goes before the class's own."""
    file.write_text(
        'service = "app.py:App"\ndirectory = "."\nuser = 0\nmax_memory = "1M"\nbefore_commit = ["true"]\n'
        'listen = { a = 80, b = { address = "/x", mode = 0o600 } }\n'
    )
    instance = instance_file.read(str(file))
    assert instance.name == "app"
    assert os.path.samefile(instance.values["directory"], file.parent) and os.path.isabs(instance.values["directory"])
    assert instance.values["user"] == "0"
    assert instance.settings == {"max_memory": 2**20, "before_commit": ("true",)}
    assert instance.listen == {"a": 80, "b": {"address": "/x", "mode": 0o600}}
    assert list(instance.values) == [key for key in FILE_KEYS if key in instance.values]


def test_a_directory_that_is_given(file: Path, tmp_path: Path) -> None:
    """It goes before the file's own, which need not be there then; files are looked for in it."""
    (tmp_path / "other").mkdir()
    file.write_text(SERVICE + "directory = 'nowhere'")
    with pytest.raises(BadFile, match=r"1:11: There is no file .*/other/app\.py\.$"):
        instance_file.read(str(file), directory=str(tmp_path / "other"))
    assert instance_file.read(str(file), directory=str(tmp_path)).name == "app"


@pytest.mark.parametrize("text", [SERVICE + "stop_timeout = 2.5\nlisten.a = 80", SERVICE + "x = 1\ny = 2", "=", None])
def test_it_is_read_apart_alike(file: Path, text: str | None) -> None:
    """A supervisor reads it in a fork, to the same end."""

    def outcome(read: object) -> object:
        try:
            return read(str(file), directory=str(file.parent))  # type: ignore[operator]
        except ConfigError as error:
            return type(error), str(error), getattr(error, "mistakes", None)

    if text is not None:
        file.write_text(text)
    assert outcome(instance_reader.read_apart) == outcome(instance_file.read)


def test_a_symlink_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance is there, and is listed; only its file cannot be read."""
    monkeypatch.setattr(locations, "config_directories", lambda: [str(tmp_path)])
    (tmp_path / "app.toml").symlink_to("nowhere")
    assert locations.configured() == ["app"]
    with pytest.raises(ConfigError, match=r"^Cannot read .*/app.toml: No such file or directory\.$"):
        instance_file.read(instance_file.file_of("app"))


@pytest.mark.parametrize("name", ["a b", "", ".x", "-x", "a:b", "a@b", "%i", "größe", "x" * 65, "x.service", "x.toml"])
def test_names(tmp_path: Path, name: str) -> None:
    """What can name no unit, or no directory with a socket, names no instance."""
    with pytest.raises(UsageError, match=r"an instance cannot be called .*; a name has up to 64 letters, digits"):
        instance_file.read(str(tmp_path / f"{name}.toml"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a." * 1500 + "b = 1", "Its values are nested too deeply"),
        ("x = " + "[" * 900 + "]" * 900, "Its values are nested too deeply"),
        ("#" + "x" * 70_000, "it has more than 65536 bytes"),
        ('user = "²"', 'There is no user "²"'),
        ('user = "99999999999999999999"', 'There is no user "99999999999999999999"'),
        ("listen.a = { address = '/x', mode = 0o" + "7" * 5000 + " }", "mode is"),
        ("listen.a = { address = '/x', mode = '" + "7" * 5000 + "' }", "mode is"),
        ("listen.a = { address = '/x', backlog = 0x" + "f" * 5000 + " }", "backlog is"),
        ("crash_limit = 0x" + "f" * 5000, "crash_limit is"),
        ('"\u202ex" = "\u009b2J"', "There is no key"),
    ],
)
def test_absurd_values(file: Path, text: str, sentence: str) -> None:
    """What nobody means is refused like any other mistake, briefly, and in letters that a terminal can show."""
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        instance_file.read(str(file))
    said = getattr(raised.value, "mistakes", [str(raised.value)])
    assert any(sentence in each for each in said), said
    assert all(printable(each) == each and len(each) < 5000 for each in said), said


def test_every_key_has_its_meaning() -> None:
    """All settings are keys of a file; what has a default has a good one, and what has none has an example."""
    assert list(FILE_KEYS)[-len(KINDS) :] == list(KINDS)
    assert DEFAULTS.keys() == FILE_KEYS.keys() and EXAMPLES.keys() <= FILE_KEYS.keys()
    assert {key: FILE_KEYS[key].check(DEFAULTS[key]) for key in KINDS} == Settings._field_defaults
    for key, kind in FILE_KEYS.items():
        assert kind.meaning and kind.wanted
        if DEFAULTS[key] is not None:
            kind.check(DEFAULTS[key])
        else:
            assert kind.check(EXAMPLES[key])
    assert {FILE_KEYS[key].unit for key in ("stop_timeout", "max_memory", "workers")} == {"seconds", "bytes", ""}


def test_the_example_is_true() -> None:
    """The file that is shipped has every key, each with its default, and is what `config --example` prints; any line of
    it is good by itself."""
    assert EXAMPLE.read_text() == example.text(), "run make made"
    assert tomllib.loads(EXAMPLE.read_text()) == {}
    lines = [line.removeprefix("#") for line in EXAMPLE.read_text().splitlines() if re.match(r"#\w", line)]
    values = tomllib.loads("\n".join(lines))
    assert list(values) == list(FILE_KEYS)
    for key, value in values.items():
        checked = FILE_KEYS[key].check(value)
        assert checked == FILE_KEYS[key].check(EXAMPLES.get(key, DEFAULTS[key]))
    assert FILE_KEYS.keys() >= ONLY_FOR_CLASSES | ONLY_FOR_COMMANDS
