"""What the environment can do to a supervisor, and what of a supervisor's own is left to the processes of a service."""

from __future__ import annotations

import socket

from tests.service.harness import Ground


def test_no_variable_holds_a_supervisor(ground: Ground) -> None:
    """The installed package has no breakpoints: what held a supervisor in older releases reaches nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(ground.directory / "asks"))
        listener.listen()
        listener.setblocking(False)
        ground.serving(environment={"SDSUPERVISE_BREAKPOINT": str(ground.directory / "asks")})
        ground.deploy(2)
        assert ground.reload().returncode == 0
        try:
            connected = listener.accept()[0].recv(100)
        except BlockingIOError:
            connected = b""
    assert connected == b""
