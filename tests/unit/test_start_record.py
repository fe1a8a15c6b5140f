"""The start record: read as what ExecReload= executes only if it is one, as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sdsupervise.errors import HandoverError
from sdsupervise.handover import start_record
from sdsupervise.handover.start_record import StartRecord
from sdsupervise.linux.inheritance import Invocation

GOOD = {"argv": ["/usr/bin/sdsupervise", "run", "--config", "/etc/x.toml"], "environment": {"NOTIFY_SOCKET": "/run/x"}}
BAD = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "deep": b"[" * 100_000,
    "a number of thousands of digits": b'{"argv": %s}' % (b"9" * 5000),
    "no words": json.dumps({**GOOD, "argv": []}).encode(),
    "words that are none": json.dumps({**GOOD, "argv": ["/bin/true", 7]}).encode(),
    "a NUL": json.dumps({**GOOD, "argv": ["/bin/true\0"]}).encode(),
    "half a surrogate pair": b'{"argv": ["\\ud800"], "environment": {}}',
    "too many words": json.dumps({**GOOD, "argv": ["x"] * 10_001}).encode(),
    "no environment": json.dumps({"argv": ["/bin/true"]}).encode(),
    "an environment that is none": json.dumps({**GOOD, "environment": {"NOTIFY_SOCKET": ["x"]}}).encode(),
    "too long": json.dumps(GOOD).encode() + b" " * 1024 * 1024,
}


def record_at(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    path.chmod(0o600)
    return str(path)


def test_as_it_was_written(tmp_path: Path) -> None:
    """A path may be of any bytes; of the environment only what is systemd's is in it."""
    path = str(tmp_path / "start.json")
    invocation = Invocation(["/srv/\udce4", "run"], "/", {"NOTIFY_SOCKET": "@x", "LD_PRELOAD": "/x"})
    start_record.write(path, invocation)
    assert start_record.read(path) == StartRecord(["/srv/\udce4", "run"], {"NOTIFY_SOCKET": "@x"})


def test_of_a_variable_that_is_not_systemds(tmp_path: Path) -> None:
    """Nothing else reaches the successor's environment."""
    more = {**GOOD, "environment": {"NOTIFY_SOCKET": "/run/x", "LD_PRELOAD": "/x"}, "more": 7}
    assert start_record.read(record_at(tmp_path / "start.json", json.dumps(more).encode())) == StartRecord(**GOOD)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_no_start_record(tmp_path: Path, data: bytes) -> None:
    """One sentence says why it is none."""
    with pytest.raises(HandoverError, match="is not a start record"):
        start_record.read(record_at(tmp_path / "start.json", data))


def linked(path: Path) -> None:
    os.link(path, path.with_name("other"))


def symlinked(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILT: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "a group may write": lambda path: path.chmod(0o620),
    "all may write": lambda path: path.chmod(0o602),
    "two names": linked,
    "a symlink": symlinked,
    "a FIFO": fifo,
}


def owned(path: Path) -> None:
    os.chown(path, 61234, 0)


def reached_by_another_s_symlink(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")
    os.chown(path.parent, 61234, 0, follow_symlinks=False)


OF_ANOTHER: dict[str, Callable[[Path], object]] = {"another's": owned, "on a way": reached_by_another_s_symlink}
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.mark.parametrize("how", [*(pytest.param(how, marks=ROOT_ONLY) for how in OF_ANOTHER), *SPOILT])
def test_what_is_not_believed(tmp_path: Path, how: str) -> None:
    """Another user's, and what others may write, or have put there in another way: nothing of it is executed."""
    (tmp_path / "run").mkdir()
    path = tmp_path / "run/start.json"
    assert start_record.read(record_at(path, json.dumps(GOOD).encode())).argv == GOOD["argv"]
    {**SPOILT, **OF_ANOTHER}[how](path)
    with pytest.raises(HandoverError):
        start_record.read(str(path))
