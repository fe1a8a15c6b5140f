"""Modules and functions that can be read at once, and one name for each class: held by the source itself."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sdsupervise"
MOST_LINES = 450  # of a module
MOST_OF_A_FUNCTION = 50  # a screen; its decorators and docstring count
# What is to become shorter still. A name that no longer needs its place here fails.
LONG_MODULES: set[str] = set()
LONG_FUNCTIONS = {"supervisor/supervisor.py: __init__", "supervisor/effects.py: perform"}  # a case for each effect

MODULES = {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def functions(text: str) -> Iterator[tuple[str, int]]:
    """The name of each function, also within others, and its number of lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def classes(text: str) -> Iterator[str]:
    """The name of each class, also within others."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            yield node.name


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name: str) -> None:
    """A module has at most MOST_LINES lines."""
    lines = MODULES[name].count("\n")
    if name in LONG_MODULES:
        assert lines > MOST_LINES, f"{name} has {lines} lines now: take it out of LONG_MODULES"
    else:
        assert lines <= MOST_LINES, f"{name} has {lines} lines: split it by what it does"


@pytest.mark.parametrize("name", MODULES)
def test_functions_fit_a_screen(name: str) -> None:
    """A function has at most MOST_OF_A_FUNCTION lines."""
    for function, lines in functions(MODULES[name]):
        if f"{name}: {function}" in LONG_FUNCTIONS:
            assert lines > MOST_OF_A_FUNCTION, f"{function} has {lines} lines now: take it out of LONG_FUNCTIONS"
        else:
            assert lines <= MOST_OF_A_FUNCTION, f"{function} in {name} has {lines} lines: split it by what it does"


def test_no_class_name_is_defined_twice() -> None:
    """A class's name means one thing in the whole package."""
    places = defaultdict(list)
    for name, text in MODULES.items():
        for found in classes(text):
            places[found].append(name)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, f"rename one of each: {twice}"
