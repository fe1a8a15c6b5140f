"""What the processes get that a service's code begins: its own streams and sockets, and nothing that is ours."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service

LOOK = """
links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
found = sorted(os.readlink(link) for link in links if os.path.lexists(link))
starts = ("SDSUPERVISE", "LISTEN", "NOTIFY", "WATCHDOG", "MAINPID")
ours = sorted(name for name in os.environ if name.startswith(starts))
if "NOTIFY_SOCKET" in os.environ:
    notify("READY=1")
report("look", who=sys.argv[1], descriptors=found, variables=ours)
if sys.argv[1] == "stays":
    wait()
"""
CHECKED = ["SDSUPERVISE_GENERATION", "SDSUPERVISE_LISTEN_HTTP", "SDSUPERVISE_LOCAL_PORTS", "SDSUPERVISE_WORKERS"]
GENERATION, INDEX = "SDSUPERVISE_GENERATION", "SDSUPERVISE_WORKER_INDEX"
WAYS = {
    "os.system": "os.system(f'{program} child')",
    "posix_spawn": "os.posix_spawn(program, [program, 'child'], os.environ)",
    "os.spawn": "os.spawnv(os.P_WAIT, program, [program, 'child'])",
    "subprocess": "subprocess.Popen([program, 'child'], close_fds=False)",
    "fork and exec": "os.fork() or os.execv(program, [program, 'child'])",
    "a child of a fork": "multiprocessing.Process(target=os.system, args=(f'{program} child',)).start()",
}
BEFORE = "import multiprocessing, subprocess\nprogram = os.environ['GROUND'] + '/tells/program'"
SETTINGS = "listen = {'http': os.environ['GROUND'] + '/http'}\n"


@pytest.fixture
def program(ground: Ground) -> str:
    ground.program("tells", LOOK)
    (ground.directory / "releases" / "tells").rename(ground.directory / "tells")
    return str(ground.directory / "tells" / "program")


@pytest.mark.parametrize("python", [(), ("--python", PYTHON)], ids=["class", "another interpreter"])
@pytest.mark.parametrize("way", WAYS)
def test_children_of_a_class(ground: Ground, program: str, way: str, python: tuple[str, ...]) -> None:
    """They get no descriptor, and the variables that are documented; in a successor too."""
    body = f"{SETTINGS}def serve(self):\n    {WAYS[way]}\n    super().serve()"
    ground.deploy(1, service(body, before=BEFORE))
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, *python, "current/service.py:Service")
    for _ in range(2):
        said = ground.expect("look")
        assert said.said("descriptors") == "[]"
        assert said.said("variables") == str([GENERATION, INDEX])
        if running.alive:
            assert ground.reload().returncode == 0
            running.wait()


def test_what_a_class_executes_in_its_place(ground: Ground, program: str) -> None:
    """It keeps the lifeline, which says when the supervisor dies, and no other descriptor; so it does where an attempt
    has failed before, and where the service has closed the lifeline it gets none."""
    body = """
    def serve(self):
        try:
            os.execv("/nowhere", ["nowhere"])
        except OSError:
            report("failed", left=os.system(f"{program} child"))
        if os.path.exists(os.environ["GROUND"] + "/close"):
            os.closerange(3, 1024)
            os.open("/etc/passwd", os.O_RDONLY)
        os.execl(program, program, "itself")
    """
    ground.deploy(1, service(body, before=BEFORE))
    running = ground.start()
    assert ground.expect("look", who="child").said("descriptors") == "[]"
    assert ground.expect("look", who="itself").said("descriptors").count("pipe:") == 1
    ground.write("close", "")
    ground.expect("failed")
    while ground.expect("look", who="itself").said("descriptors") != "[]":
        pass
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
def test_commands(ground: Ground, program: str, handover: str) -> None:
    """A command gets its listeners and how to notify; before_commit and notify_command get no descriptor."""
    options = ("--listen", f"http={ground.directory}/http", "--handover", handover)
    checks = ("--before-commit", f"{program} check", "--notify-command", f"{program} told")
    running = ground.run_command(program, "stays", options=(*options, *checks))
    of_commands = ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", GENERATION, INDEX]
    said = ground.expect("look", who="stays")
    assert said.said("descriptors").count("socket:") == 1 and said.said("descriptors").count(",") == 0
    assert said.said("variables") == str(of_commands)
    assert ground.reload().returncode == 0
    assert ground.expect("look", who="stays").said("variables") == str(of_commands)
    assert running.wait() == 0
    for who, variables in (("check", CHECKED), ("told", None)):
        said = ground.expect("look", who=who)
        assert said.said("descriptors") == "[]"
        if variables is not None:
            assert said.said("variables") == str(variables)
        else:
            assert not {"NOTIFY_SOCKET", "LISTEN_FDS"} & set(said.said("variables").split("'"))
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()
