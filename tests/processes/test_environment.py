"""What the environment can do to a supervisor, and what of a supervisor's own is left to the processes of a service."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.support.harness import SDSUPERVISE, Breakpoint, Ground, service

# Each is for a supervisor, and a lie to every other process.
PRIVATE = ("SDSUPERVISE_HANDOVER", "SDSUPERVISE_RUN_DIRECTORY", "TESTS_BREAKPOINT")
# Says which of them it finds, and the sockets that it was given.
TELLS = f"""
import stat
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
found = [name for name in {PRIVATE} if name in os.environ]
sockets = [fd for fd in range(3, 100) if is_socket(fd)]
if sys.argv[1] == "command":
    notify("READY=1")
    barrier()
report(sys.argv[1], found=found, sockets=sockets)
if sys.argv[1] == "command":
    wait()
"""
NOTHING = {"found": "[]", "sockets": "[]"}
CLASS = service(
    """
    def serve(self):
        os.system(os.environ["GROUND"] + "/tells/program child")
        super().serve()
    """,
    before='os.system(os.environ["GROUND"] + "/tells/program import")',
)


@pytest.fixture
def name(ground: Ground) -> Iterator[str]:
    """Of an instance whose run directory is made by us, and is called after this test's ground."""
    ground.program("tells", TELLS)
    (ground.directory / "releases" / "tells").rename(ground.directory / "tells")
    yield ground.directory.name
    shutil.rmtree(f"/run/sdsupervise/{ground.directory.name}", ignore_errors=True)


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


@pytest.mark.skipif(os.geteuid() != 0, reason="the run directory of a system's instance is root's to make")
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ('service = "service.py"', ("import", "child")),
        (f'service = "service.py"\npython = "{os.path.realpath(sys.executable)}"', ("import", "import", "child")),
        ('command = ["{tells}", "command"]', ("command",)),
    ],
    ids=["class", "elsewhere", "command"],
)
def test_nothing_private_is_left_to_others(ground: Ground, name: str, what: str, words: tuple[str, ...]) -> None:
    """Whatever a class starts, while it is imported or in a worker, a command, before_commit and notify_command find no
    variable of a supervisor's own, and no socket: neither in the first generation nor in a successor."""
    tells = ground.directory / "tells" / "program"
    file = ground.write(
        f"{name}.toml",
        f'directory = "{ground.directory}/current"\nbefore_commit = ["{tells}", "check"]\n'
        f'notify_command = ["{tells}", "told"]\n{what.format(tells=tells)}\n',
    )
    ground.deploy(1, CLASS)
    hold = Breakpoint(ground, "COMMITTING+BARRIER_RETURNED")
    ground.run(SDSUPERVISE, "run", "--config", file, environment=hold.environment)
    found = {word: [ground.expect(word).details] for word in words}
    reload = ground.run(SDSUPERVISE, "reload", name)
    hold.wait()  # a breakpoint is one of them, and there is one here
    hold.release()
    for word in (*words, "check", "told"):
        found.setdefault(word, []).append(ground.expect(word).details)
    assert reload.wait() == 0
    private = {word: details for word, details in found.items() if details != [NOTHING] * len(details)}
    assert private == {}
