"""What continuous integration runs: one script, whoever calls it."""

from __future__ import annotations

import os
from typing import Any

import yaml

from tests.packages.built import TREE

SUITES = {"12": "bookworm", "13": "trixie"}  # that we promise to run on


def read(name: str) -> Any:  # noqa: ANN401 - it is YAML
    return yaml.safe_load((TREE / name).read_text())


def test_github() -> None:
    """A job for each Debian: it has git, checks out, and runs the script."""
    workflow = read(".github/workflows/ci.yml")
    assert set(workflow[True]) == {"push", "pull_request", "workflow_dispatch"}  # YAML 1.1 reads "on" so
    (job,) = workflow["jobs"].values()
    jobs = job["strategy"]["matrix"]["include"]
    assert {str(each["debian"]): each["suite"] for each in jobs} == SUITES
    assert job["container"]["image"] == "debian:${{ matrix.debian }}"
    assert job["env"] == {"SUITE": "${{ matrix.suite }}"}
    assert job["steps"][-1]["run"] == ".ci/run"


def test_gitlab() -> None:
    """The same, on Debian's GitLab and others."""
    pipeline = read("packaging/debian/salsa-ci.yml")
    jobs = pipeline["test"]["parallel"]["matrix"]
    assert {each["DEBIAN"]: each["SUITE"] for each in jobs} == SUITES
    assert pipeline["test"]["image"] == "debian:$DEBIAN"
    assert pipeline["test"]["script"] == [".ci/run"]


def test_the_script() -> None:
    """It is executable, and runs what CONTRIBUTING tells everybody to run."""
    assert os.access(TREE / ".ci/run", os.X_OK)
    assert (TREE / ".ci/run").read_text().rstrip().endswith('exec make "${@:-test}"')
