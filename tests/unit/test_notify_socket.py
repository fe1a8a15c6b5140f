"""The socket that takes a command's notifications."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sdsupervise.systemd.notify_client import is_of_supervisor
from sdsupervise.workers import command_source, notify_socket
from sdsupervise.workers.notify_socket import NotifySocket


def test_nobody_may_connect_while_its_name_can_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users may connect only under the name that is a secret, whatever the umask is."""
    modes = []

    def rename(public: str, secret: str) -> None:
        modes.append(stat.S_IMODE(os.stat(public).st_mode))
        os.rename(public, secret)

    monkeypatch.setattr(notify_socket, "os", Spied(rename))
    before = os.umask(0)
    try:
        made = NotifySocket(str(tmp_path))
    finally:
        os.umask(before)
    assert modes == [0o600] and stat.S_IMODE(os.stat(made.path).st_mode) == 0o666
    made.close()
    assert not list(tmp_path.iterdir())


def test_of_a_supervisor_or_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a NOTIFY_SOCKET tells `sdsupervise ready` who receives there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    made = NotifySocket(command_source._make_directory())
    assert is_of_supervisor(made.path)
    made.close()
    for other in ("/run/systemd/notify", "@/org/freedesktop/systemd1/notify", "/run/notify/notify.sock", "notify", ""):
        assert not is_of_supervisor(other)
    assert not is_of_supervisor("/run/user/1000/systemd/notify")
    assert not is_of_supervisor("/run/notify.container.sock/notify")


class Spied:
    """The module os with another rename()."""

    def __init__(self, rename: object) -> None:
        self.rename = rename

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)
