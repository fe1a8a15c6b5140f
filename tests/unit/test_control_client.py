"""What a client takes from whatever listens on a control socket."""

from __future__ import annotations

import os
import socket

import pytest

from sdsupervise.control import varlink
from sdsupervise.control.client import Client
from sdsupervise.errors import ProtocolError


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_descriptors_come_only_with_an_order() -> None:
    """Other answers with descriptors are refused, and these are closed. Else a successor, a fork of this process, would
    keep them."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.settimeout(10)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        client = Client(ours, "/run/x/control", 10.0)
        message = {"parameters": {"message": "It starts."}, "continues": True}
        socket.send_fds(theirs, [varlink.encode(message)], [0, 0])
        before = open_descriptors()
        with pytest.raises(ProtocolError, match="comes with descriptors"):
            next(client.call("Reload", more=True))
        assert open_descriptors() == before
        client.close()
