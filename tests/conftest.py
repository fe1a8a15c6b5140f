"""Which sdsupervise is tested, and the plugins of the tests: fixtures, what failures show, where the time goes."""

from __future__ import annotations

import filecmp
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TREE = TESTS.parent / "sdsupervise"
INSTALLED = Path(sysconfig.get_path("purelib")) / "sdsupervise"

TEST_THE_TREE = (TESTS / "unit", TESTS / "model")
"""A run of these folders alone needs no wheel."""

MEMORY = "/dev/shm"
ENOUGH_BYTES = 2**30

# Their assertions are the tests' own.
pytest.register_assert_rewrite("tests.support.trial", "tests.support.fifos", "tests.machines.units.real")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the package under test before anything imports it, then load the plugins, which do."""
    # A shell starts what it puts into the background with SIGINT ignored, and every service would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not _tests_only_the_tree(config):
        _import_the_wheel()
    if _can_hold_programs(MEMORY):
        tempfile.tempdir = MEMORY  # on a disk, the directories of so many tests cost a tenth of the CPU time
    for plugin in ("fixtures", "failures", "timings"):
        config.pluginmanager.import_plugin(f"tests.support.{plugin}")


def _can_hold_programs(directory: str) -> bool:
    if not os.access(directory, os.W_OK | os.X_OK) or os.statvfs(directory).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(directory).free > ENOUGH_BYTES


def _tests_only_the_tree(config: pytest.Config) -> bool:
    paths = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return all(any(path.is_relative_to(folder) for folder in TEST_THE_TREE) for path in paths)


def _import_the_wheel() -> None:
    """Import the installed package; refuse one that is not made from this tree."""
    here, there = ({p.relative_to(base) for p in base.rglob("*.py")} for base in (TREE, INSTALLED))
    if here != there or any(not filecmp.cmp(TREE / path, INSTALLED / path, shallow=False) for path in here):
        raise pytest.UsageError("The installed sdsupervise is not this tree's: run `packaging/provision wheel` first.")
    # The tree comes first on sys.path, since the tests are imported from there. A package that is already
    # imported stays where it is, and so do its submodules.
    spec = importlib.machinery.PathFinder.find_spec("sdsupervise", [str(INSTALLED.parent)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["sdsupervise"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
