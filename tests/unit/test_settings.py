"""Settings and options: ranges, types, and sentences for what is wrong."""

from __future__ import annotations

import random

import pytest

from sdsupervise.errors import ConfigError, ExitStatus, UsageError
from sdsupervise.service.daemon import SupervisedDaemon
from sdsupervise.service.options import Parsed, parse_plain
from sdsupervise.service.usage import parse, parser_for
from sdsupervise.settings.settings import KINDS, OF_CLASSES, Settings, check_settings, in_words

OPTIONS = (
    {"name": "port", "option_type": "integer", "default": 7},
    {"name": "ratio", "option_type": "float"},
    {"name": "label", "option_type": "string", "default": "none", "documentation": "100% of it"},
    {"name": "bold", "option_type": "switch"},
    {"name": "calm", "option_type": "switch", "default": True},
)


def test_every_setting_has_limits_and_a_meaning() -> None:
    """Each setting stands once in both tables, and its default lies within its limits."""
    assert list(KINDS) == list(Settings._fields)
    for name, kind in KINDS.items():
        default = Settings._field_defaults[name]
        try:
            assert kind.check(default) == default, f"{name}: its default {default!r} is not as its kind returns it"
        except ValueError:
            pytest.fail(f"{name}: its default {default!r} is not {kind.wanted}, which its kind in kinds.py wants.")
        assert kind.meaning


def test_every_class_has_the_settings() -> None:
    """Each setting of classes is an attribute of SupervisedDaemon, with its default, and no other setting is."""
    for name in OF_CLASSES:
        default = {} if name == "listen" else Settings._field_defaults[name]
        assert name in vars(SupervisedDaemon), f"give SupervisedDaemon in service/daemon.py the attribute {name}"
        assert getattr(SupervisedDaemon, name) == default
    assert not vars(SupervisedDaemon).keys() & (set(KINDS) - set(OF_CLASSES))


def test_defaults() -> None:
    """The original's deadlines are the defaults."""
    settings = check_settings("Service", {})
    assert settings == Settings()
    assert (settings.delay_before_respawn, settings.reload_timeout, settings.takeover_timeout) == (5.0, 60.0, 5.0)
    assert (settings.worker_timeout, settings.crash_limit, settings.probation) == (0.0, 0, 0.0)
    assert (settings.respawn_backoff_limit, settings.respawn_forgiven_after) == (30.0, 60.0)


NUMBERS = {name: kind for name, kind in KINDS.items() if kind.form in ("seconds", "whole number")}


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_limits(name: str) -> None:
    """Both ends of a setting's range are allowed, and whole numbers for seconds; what lies beyond is not."""
    limit, whole = NUMBERS[name], NUMBERS[name].form == "whole number"
    kind = int if whole else float
    allowed: list[float] = [kind(limit.low), kind(limit.high), 1]
    room = {"start_timeout": 0, "reload_timeout": limit.high} if name == "ready_after" else {}
    for value in allowed:
        assert getattr(check_settings("Service", {**room, name: value}), name) == value
    wrong: list[object] = [limit.low - 1, limit.high * 2, "1", None, True, [], float("nan"), float("inf")]
    for other in [*wrong, *([1.5] if whole else [])]:
        with pytest.raises(ConfigError, match=f"^Service: {name} is .*; it must be ") as raised:
            check_settings("Service", {name: other})
        assert limit.meaning in str(raised.value)
        assert raised.value.exit_status == ExitStatus.CONFIG


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("handover", "overlap", "overlap"),
        ("workers", "auto", "auto"),
        ("workers", "8", 8),
        ("max_memory", "512M", 512 * 2**20),
        ("max_memory", "1000", 1000),
        ("before_commit", "curl -fsS 'http://127.0.0.1/a b'", ("curl", "-fsS", "http://127.0.0.1/a b")),
        ("stop_timeout", "1.5", 1.5),
        ("crash_limit", "3", 3),
    ],
)
def test_settings_on_a_command_line(name: str, text: str, value: object) -> None:
    """A command line's text means what the class attribute would."""
    assert getattr(check_settings("Service", {name: KINDS[name].read(text)}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("handover", "both"),
        ("handover", None),
        ("workers", 0),
        ("workers", True),
        ("workers", "many"),
        ("max_memory", -1),
        ("max_memory", "12Q"),
        ("max_memory", "M"),
        ("max_memory", 1.5),
        ("before_commit", "curl"),
        ("before_commit", [1]),
        ("before_commit", [""]),
    ],
)
def test_wrong_values(name: str, value: object) -> None:
    """What is no number has its own sentence."""
    with pytest.raises(ConfigError, match=f"^Service: {name} is .*; it must be ") as raised:
        check_settings("Service", {name: value})
    assert KINDS[name].wanted in str(raised.value)


def test_nothing_in_words() -> None:
    """--help says of an empty default that there is none, whatever its type."""
    assert in_words("") == in_words(()) == "none"


def test_unknown_setting() -> None:
    """A setting that does not exist is an error that names it."""
    with pytest.raises(ConfigError, match="Service has a setting 'stop_timout', which does not exist"):
        check_settings("Service", {"stop_timout": 1})


# ---------------------------------------------------------------------------------------------------------- options


def parsed(*arguments: str) -> Parsed:
    plain = parse_plain(OPTIONS, arguments)
    return plain if plain is not None else parse(parser_for("service", "A service.", OPTIONS), arguments)


def test_defaults_of_options() -> None:
    """What is not given has its default; without one None, a switch False."""
    values = {name: parsed().get(name) for name in ("port", "ratio", "label", "bold", "calm")}
    assert values == {"port": 7, "ratio": None, "label": "none", "bold": False, "calm": True}
    assert parsed().get("no-pid-file") is False and parsed().get("pid-file") is None


def test_types_of_options() -> None:
    """What is given has the type asked for."""
    found = parsed("--port=8", "--ratio", "1e-3", "--label", "-", "--bold")
    assert [found.get(name) for name in ("port", "ratio", "label", "bold")] == [8, 0.001, "-", True]


@pytest.mark.parametrize(
    ("arguments", "rest"),
    [
        ([], []),
        (["one", "two"], ["one", "two"]),
        (["--bold", "one"], ["one"]),
        (["one", "--bold", "two"], ["one", "two"]),
        (["--", "--bold", "one"], ["--bold", "one"]),
        (["one", "--", "--two"], ["one", "--two"]),
        (["one", "--", "two", "--", "three"], ["one", "two", "--", "three"]),
        (["-1", "-"], ["-1", "-"]),
    ],
)
def test_rest(arguments: list[str], rest: list[str]) -> None:
    """What is no option is the rest, in its order; "--" ends the options."""
    assert parsed(*arguments).rest == rest


@pytest.mark.parametrize("line", ["--no-such", "-x", "--port", "--port x", "--port 1.5", "--bold=1", "--ratio 1,5"])
def test_wrong_options(line: str) -> None:
    """An option that is unknown, lacks its value, or has one of a wrong type is a sentence."""
    with pytest.raises(UsageError) as raised:
        parsed(*line.split())
    text = str(raised.value)
    assert text[0].isupper() and text.endswith(".") and "\n" not in text


WORDS = ["--bold", "--port", "--port=5", "--port=x", "--ratio", "1e3", "--label", "--label=", "one", "-1", "-", "--"]


def test_argparse_finds_the_same() -> None:
    """What is found without argparse is what argparse finds, in whatever order the words are."""
    parser, chance = parser_for("service", "A service.", OPTIONS), random.Random(1)
    found = 0
    for _ in range(2000):
        words = chance.choices(WORDS, k=chance.randrange(5))
        plain = parse_plain(OPTIONS, words)
        found += plain is not None
        assert plain is None or vars(plain) == vars(parse(parser, words)), words
    assert 200 < found < 2000


def test_unknown_name() -> None:
    """Asking for an option that was never defined names those that were."""
    with pytest.raises(KeyError, match=r"Unknown option 'prot'; known are bold, calm, .*port"):
        parsed().get("prot")


def test_bad_definition() -> None:
    """A definition with an unknown type names the option."""
    with pytest.raises(ValueError, match="Option 'x' is of type 'colour'"):
        parser_for("service", "", [{"name": "x", "option_type": "colour"}])


def test_usage_is_sorted_whatever_the_order() -> None:
    """The options' table is sorted by name, built-in and own ones together."""
    text = parser_for("service", "A service.", OPTIONS).format_help()
    lines = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert lines == sorted(lines) and len(lines) == len(OPTIONS) + 7
    assert "100% of it" in text
