"""Booting a machine by starting its guardian, and having it taken away by letting go of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.debian_root import RootUnavailable, debian_root
from tests.support.guardian import TEARDOWN_LIMIT_SECONDS, Settings, remove_cgroup

BOOT_LIMIT_SECONDS = 60.0


class MachineError(Exception):
    """Something on the ground failed, not in the product; the message quotes what is known."""


class MachineUnavailable(MachineError):
    """No machine can be booted here; the message is one sentence on why and what to do."""


class Place(NamedTuple):
    """Where a booted machine is, seen from out here."""

    leader: int
    name: str
    directory: Path
    cgroup: Path
    bell: int
    """Becomes readable when journald gets a message; see JournalFollower."""


@contextlib.contextmanager
def guarded_machine(
    suite: str,
    with_product: bool,
    shown: Mapping[str, Path],
    boot_limit_seconds: float,
    *,
    bare: bool = False,
    more: Sequence[str] = (),
) -> Iterator[Place]:
    """Boot a machine; leaving takes it away, with all that ran in it."""
    if os.geteuid() != 0 or shutil.which("systemd-nspawn", path="/usr/bin") is None:
        raise MachineUnavailable(
            "Booting a systemd needs root and systemd-nspawn: run packaging/provision as root, "
            "or set SYSTEMD=no to leave out what needs it."
        )
    try:
        root = debian_root(suite, bare=bare, more=more)
    except RootUnavailable as error:
        raise MachineUnavailable(str(error)) from error
    product = installed_product() if with_product else []
    paths = {theirs: str(ours) for theirs, ours in shown.items()}
    settings = Settings(str(root), product, paths, boot_limit_seconds)
    guardian = subprocess.Popen(
        [sys.executable, "-IS", str(Path(__file__).with_name("guardian.py")), json.dumps(settings._asdict())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # what is behind its first line is the bell
        start_new_session=True,  # a Ctrl-C is for us; the guardian learns of our end by its standard input's
    )
    try:
        assert guardian.stdout is not None
        answer = hear(guardian, boot_limit_seconds + TEARDOWN_LIMIT_SECONDS * 3)
        if "error" in answer:
            raise MachineError(f"The Debian {suite} machine did not boot: {answer['error']}")
        bell = guardian.stdout.fileno()
        os.set_blocking(bell, False)
        directory, cgroup = Path(answer["directory"]), Path(answer["cgroup"])
        try:
            yield Place(answer["leader"], answer["name"], directory, cgroup, bell)
        finally:
            if guardian.poll() is not None:  # it ends before us only when somebody kills it
                remove_cgroup(cgroup)
                shutil.rmtree(directory)
    finally:
        dismiss(guardian)


def installed_product() -> list[str]:
    """The directories that the wheel put beside this Python: the package, and what describes it."""
    site_packages = Path(sysconfig.get_path("purelib"))
    package = site_packages / "sdsupervise"
    if not package.is_dir():
        raise MachineUnavailable(f"sdsupervise is not installed in {site_packages}; run packaging/provision first.")
    return [str(package), *map(str, site_packages.glob("sdsupervise-*.dist-info"))]


def hear(guardian: subprocess.Popen[bytes], timeout_seconds: float) -> dict[str, Any]:
    """The guardian's one line."""
    assert guardian.stdout is not None
    if not select.select([guardian.stdout], [], [], timeout_seconds)[0]:
        raise MachineError(f"The guardian of a machine (pid {guardian.pid}) said nothing in {timeout_seconds:g} s.")
    line = guardian.stdout.readline()
    if not line:
        raise MachineError(f"The guardian of a machine ended without a word, with status {guardian.wait()}.")
    answer: dict[str, Any] = json.loads(line)
    return answer


def dismiss(guardian: subprocess.Popen[bytes]) -> None:
    """Tell the guardian to take the machine away, and wait until it has."""
    assert guardian.stdin is not None
    assert guardian.stdout is not None
    guardian.stdin.close()
    guardian.stdout.close()
    try:
        guardian.wait(TEARDOWN_LIMIT_SECONDS * 3)
    except subprocess.TimeoutExpired as error:
        guardian.kill()
        guardian.wait()
        raise MachineError("A machine could not be taken away in time; its remains have its name.") from error
