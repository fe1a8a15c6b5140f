"""What `workers = "auto"` counts: the CPUs that the affinity allows, and no more than the control groups pay for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdsupervise.linux import cpus
from sdsupervise.linux.cpus import Cpus


class Tree:
    """A directory as /proc/PID shows one's control groups, and the files of these."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mounts = ["22 1 0:20 / /proc rw,nosuid - proc proc rw\n"]

    def mount(self, place: str, root: str = "/", kind: str = "cgroup2", options: str = "rw") -> None:
        """A hierarchy is seen here."""
        (self.directory / place).mkdir()
        point = str(self.directory / place).replace(" ", "\\040")
        self.mounts.append(f"30 22 0:26 {root} {point} rw,relatime shared:4 - {kind} {kind} {options}\n")

    def write(self, place: str, text: str) -> None:
        """A file of a control group."""
        path = self.directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def quota(self, *groups: str) -> float | None:
        """What is found by a process of these."""
        (self.directory / "mountinfo").write_text("".join(self.mounts))
        (self.directory / "cgroup").write_text("".join(f"{group}\n" for group in groups))
        return cpus._quota(str(self.directory))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_least_on_the_way_up(tree: Tree) -> None:
    """A unit without a quota has that of its slice; of several the least counts, and "max" is none."""
    tree.mount("fs")
    tree.write("fs/app.slice/cpu.max", "150000 100000")
    tree.write("fs/app.slice/web.service/cpu.max", "max 100000")
    assert tree.quota("0::/app.slice/web.service") == 1.5
    tree.write("fs/app.slice/web.service/cpu.max", "20000 40000")
    assert tree.quota("0::/app.slice/web.service") == 0.5
    assert tree.quota("0::/app.slice") == 1.5
    assert tree.quota("0::/") is None
    assert tree.quota("0::/other.service") is None


def test_in_a_container(tree: Tree) -> None:
    """With a namespace of its own, and where only a part of the hierarchy is mounted, the container's limit counts."""
    tree.mount("a place", root="/docker/123")
    tree.write("a place/cpu.max", "250000 100000")
    assert tree.quota("0::/") == 2.5
    assert tree.quota("0::/docker/123") == 2.5
    assert tree.quota("0::/docker/1234") == 2.5
    assert tree.quota("0::/../elsewhere") == 2.5
    tree.write("a place/inner/cpu.max", "100000 100000")
    assert tree.quota("0::/docker/123/inner") == 1.0


def test_version_1(tree: Tree) -> None:
    """Where the cpu controller is version 1's, beside a version 2 without one."""
    tree.mount("unified")
    tree.mount("cpuset", kind="cgroup", options="rw,cpuset")
    tree.mount("cpu", kind="cgroup", options="rw,cpu,cpuacct")
    for place, quota in (("cpu/system.slice", "-1"), ("cpu/system.slice/x.service", "300000")):
        tree.write(f"{place}/cpu.cfs_quota_us", quota)
        tree.write(f"{place}/cpu.cfs_period_us", "100000")
    groups = ("5:cpuset:/", "4:cpu,cpuacct:/system.slice/x.service", "1:name=systemd:/x", "0::/system.slice/x.service")
    assert tree.quota(*groups) == 3.0
    assert tree.quota("4:cpu,cpuacct:/system.slice", "0::/") is None


@pytest.mark.parametrize("text", ["", "max", "0 0", "100000 0", "a b", "1 2 3"])
def test_nonsense_is_no_quota(tree: Tree, text: str) -> None:
    """What is no quota as the kernel writes them is none, and nothing breaks."""
    tree.mount("fs")
    tree.write("fs/x/cpu.max", text)
    assert tree.quota("0::/x") is None
    assert cpus._quota("/no/such/place") is None


@pytest.mark.parametrize(
    ("allowed", "quota", "count", "sentence"),
    [
        (8, None, 8, "this process may use 8 CPUs"),
        (1, None, 1, "this process may use 1 CPU"),
        (8, 1.5, 2, "the control group's quota is 1.5 of 8 CPUs"),
        (8, 0.2, 1, "the control group's quota is 0.2 of 8 CPUs"),
        (8, 0.0, 1, "the control group's quota is 0 of 8 CPUs"),
        (2, 4.0, 2, "this process may use 2 CPUs"),
    ],
)
def test_the_number(allowed: int, quota: float | None, count: int, sentence: str) -> None:
    """At least 1, a part counts as one, and the affinity is the limit."""
    assert (Cpus(allowed, quota).usable, str(Cpus(allowed, quota))) == (count, sentence)


def test_of_this_process() -> None:
    """It can be found out here, whatever it is."""
    assert 1 <= cpus.available().usable <= len(os.sched_getaffinity(0))
