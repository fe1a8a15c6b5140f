"""From the service's user to root there is no way: each sentence of packaging/doc/security.md that needs a systemd."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import booted
from tests.ground.machine import Machine
from tests.systemd.trial import wait_for_all

UNITS = Path(__file__).parents[2] / "units"
TEMPLATE = "sdsupervise@.service"
USER = "games"

# Says who it was loaded as, and who serves; what a test puts into /srv/NAME/late.py is run by the worker.
SOURCE = '''\
import os, time
with open("/tmp/loaded", "a") as file:
    print(os.getuid(), file=file)

from sdsupervise import SupervisedDaemon

class Service(SupervisedDaemon):
    """Somebody's code."""
    can_do_hot_reload = True
    release = RELEASE

    def supervised_process(self):
        self.ready_to_take_over()
        if os.path.exists("late.py"):
            with open("late.py") as file:
                exec(file.read(), {"self": self})
        print(f"release {self.release} serves as {os.getuid()}", flush=True)
        while True:
            self.ping_supervisor()
            time.sleep(0.2)

    def supervised_shutdown(self):
        pass
'''

# A supervisor that somebody made up: it answers everything by the order to start a successor of its own choice.
FAKE = """\
import json, os, socket, sys
place, argv = sys.argv[1], ["/usr/bin/touch", "/tmp/pwned"]
server = socket.socket(socket.AF_UNIX)
server.bind(place)
os.chmod(place, 0o777)
server.listen()
print("listens", flush=True)
while True:
    client, _ = server.accept()
    with client:
        asked = client.recv(65536)
        if not asked:
            continue
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        order = {"argv": argv, "environment": {"PATH": "/usr/bin"}, "directory": "/"}
        for answer in ({"bear": order}, {"spawn": True, **order}):
            message = {"parameters": answer, "continues": True}
            socket.send_fds(client, [json.dumps(message).encode() + b"\\0"], [theirs.fileno(), writer])
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with the template."""
    for machine in booted():
        machine.write(f"/usr/lib/systemd/system/{TEMPLATE}", (UNITS / TEMPLATE).read_text())
        machine.run("systemctl", "daemon-reload")
        yield machine


class Instance:
    """An instance whose code is its user's own to write."""

    def __init__(self, machine: Machine, name: str, *lines: str, user: str = USER) -> None:
        self.machine, self.name, self.unit = machine, name, f"sdsupervise@{name}.service"
        self.place = f"/srv/{name}"
        self.deploy(1)
        machine.run("chown", "-R", f"{user}:", self.place)
        text = [f'directory = "{self.place}"', 'service = "service.py:Service"', *lines, ""]
        machine.write(f"/etc/sdsupervise/{name}.toml", "\n".join(text))
        machine.run("rm", "-f", "/tmp/loaded", "/tmp/pwned")

    def deploy(self, release: int) -> None:
        self.machine.write(f"{self.place}/service.py", SOURCE.replace("RELEASE", str(release)))

    def drop_in(self, *settings: str) -> None:
        self.machine.write(f"/run/systemd/system/{self.unit}.d/test.conf", "\n".join(["[Service]", *settings, ""]))
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> None:
        self.machine.run("systemctl", "start", self.unit)

    def reload(self) -> int:
        return self.machine.run("systemctl", "reload", self.unit, check=False).returncode

    def status(self) -> dict[str, object]:
        answer: dict[str, object] = json.loads(self.machine.run("sdsupervise", "status", self.name, "--json").stdout)
        return answer

    def loaded_as(self) -> list[str]:
        return self.machine.read("/tmp/loaded").split()

    def uids(self) -> set[str]:
        """Of every process of the unit."""
        pids = [process.pid for process in self.machine.processes(self.unit) if process.state != "Z"]
        return {
            line.split()[1]
            for pid in pids
            for line in self.machine.read(f"/proc/{pid}/status").splitlines()
            if line.startswith("Uid:")
        }

    def assert_not_pwned(self) -> None:
        assert self.machine.run("test", "-e", "/tmp/pwned", check=False).returncode == 1

    def close(self) -> None:
        self.machine.run("systemctl", "stop", self.unit)
        self.machine.run("rm", "-rf", f"/run/systemd/system/{self.unit}.d", f"/etc/sdsupervise/{self.name}.toml")
        self.machine.run("systemctl", "daemon-reload")


def uid_of(machine: Machine, user: str = USER) -> str:
    return machine.run("id", "-u", user).stdout.strip()


@pytest.mark.parametrize("verb", [["reload"], ["reload", "--all"], ["status"], ["scale", "fake", "3"]], ids=" ".join)
def test_a_made_up_supervisor(machine: Machine, verb: list[str]) -> None:
    """Whoever owns a run directory can answer there; root's commands execute nothing of it, and end."""
    machine.run("rm", "-rf", "/run/sdsupervise/fake", "/tmp/pwned")
    machine.run("install", "-d", "-o", USER, "/run/sdsupervise/fake")
    machine.write("/tmp/fake.py", FAKE)
    server = [
        "setpriv",
        f"--reuid={USER}",
        "--clear-groups",
        "python3",
        "/tmp/fake.py",
        "/run/sdsupervise/fake/control",
    ]
    with machine.popen(*server) as fake:
        assert fake.stdout is not None and fake.stdout.readline() == "listens\n"
        words = verb if "--all" in verb or "fake" in verb else [*verb, "fake"]
        done = machine.run("sdsupervise", *words, check=False)
        fake.kill()
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert machine.run("test", "-e", "/tmp/pwned", check=False).returncode == 1
    machine.run("rm", "-rf", "/run/sdsupervise/fake")


@pytest.mark.parametrize("python", [False, True], ids=["imported", "python ="])
def test_code_is_loaded_as_its_user(machine: Machine, python: bool) -> None:
    """Where the file names the user, the class is loaded as that user: at the start, and at every reload by systemd,
    whose process is root."""
    more = ['python = "/usr/bin/python3"'] if python else []
    instance = Instance(machine, "loaded", f'user = "{USER}"', *more)
    try:
        instance.start()
        instance.deploy(2)
        assert instance.reload() == 0
        instance.deploy(3)
        assert instance.reload() == 0
        assert instance.status()["generation"] == 3
        assert set(instance.loaded_as()) == {uid_of(machine)}
        assert instance.uids() == {uid_of(machine)}
    finally:
        instance.close()


def test_a_port_of_root(machine: Machine) -> None:
    """What the file lists is opened before the rights are dropped, also by a reload that adds it."""
    instance = Instance(machine, "port", f'user = "{USER}"', 'listen.http = "127.0.0.1:80"')
    try:
        instance.start()
        machine.write(
            "/etc/sdsupervise/port.toml",
            machine.read("/etc/sdsupervise/port.toml") + 'listen.more = "127.0.0.1:81"\n',
        )
        assert instance.reload() == 0
        sockets = instance.status()["sockets"]
        assert isinstance(sockets, list)
        assert [each["address"] for each in sockets] == ["127.0.0.1:80", "127.0.0.1:81"]
        assert set(instance.loaded_as()) == {uid_of(machine)}
    finally:
        instance.close()


# What a worker does that somebody has taken over: it repeats what ExecReload= says, and keeps what it is handed.
_COMPROMISED = """\
import json, os, signal, socket
client = socket.socket(socket.AF_UNIX)
client.connect(os.environ["RUNTIME_DIRECTORY"] + "/control")
call = {"method": "io.sdsupervise.Reload", "more": True, "parameters":
        {"exec_reload": True, "spawns": True, "bears": True, "invocation_id": os.environ.get("INVOCATION_ID", "")}}
if not os.path.exists("/tmp/asked"):
    open("/tmp/asked", "w").close()
    # Whatever is handed over comes before this worker is stopped.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    client.sendall(json.dumps(call).encode() + b"\\0")
    got, said = [], b""
    while b"generation 1 stops" not in said:
        data, fds, _, _ = socket.recv_fds(client, 65536, 16)
        if not data:
            break
        said, got = said + data, got + fds
    print(f"was handed {len(got)} descriptors, {b'spawn' in said or b'bear' in said}", flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
"""


@pytest.mark.parametrize("way", ["user =", "User=", "DynamicUser=", "PrivateUsers="])
def test_a_worker_is_no_exec_reload(machine: Machine, way: str) -> None:
    """A worker that says it was the process of ExecReload= is handed nothing: no channel, no listener, no lock. Its own
    user may reload, so the reload itself takes place, by the supervisor."""
    lines = [f'user = "{USER}"'] if way == "user =" else []
    instance = Instance(machine, f"taken{len(way)}", *lines)
    settings = {
        "User=": [f"User={USER}"],
        "DynamicUser=": ["DynamicUser=yes"],
        "PrivateUsers=": [f"User={USER}", "PrivateUsers=yes"],
    }.get(way, [])
    try:
        instance.drop_in(*settings)
        machine.run("rm", "-f", "/tmp/asked")
        machine.write(f"{instance.place}/late.py", _COMPROMISED)
        journal = machine.follow_journal(instance.unit)
        instance.start()
        wait_for_all(journal, "was handed 0 descriptors, False", "Generation 1 leaves")
        assert instance.status()["generation"] == 2
        assert instance.reload() == 0
        assert "0" not in instance.uids()
    finally:
        instance.close()


def test_a_user_that_stands_for_all(machine: Machine) -> None:
    """User=nobody with PrivateUsers=yes: there every other user appears as nobody, so that only root may command."""
    instance = Instance(machine, "nobody", user="nobody")
    try:
        instance.drop_in("User=nobody", "PrivateUsers=yes")
        instance.start()
        for user in (USER, "nobody"):
            words = ["setpriv", f"--reuid={user}", "--clear-groups", "sdsupervise", "scale", "nobody", "2"]
            done = machine.run(*words, check=False)
            assert done.returncode == 77 and "Only root may scale" in done.stderr
        assert machine.run("sdsupervise", "status", "nobody").returncode == 0
    finally:
        instance.close()


def test_a_record_that_somebody_else_may_have_written(machine: Machine) -> None:
    """PermissionsStartOnly=: ExecReload= is root, and the run directory is not. What lies there is not executed; the
    supervisor starts its successor itself, as itself."""
    instance = Instance(machine, "record")
    try:
        instance.drop_in(f"User={USER}", "PermissionsStartOnly=yes")
        instance.start()
        machine.write(
            "/run/sdsupervise/record/start.json",
            json.dumps({"argv": ["/usr/bin/touch", "/tmp/pwned"], "environment": {}}),
        )
        machine.run("chown", USER, "/run/sdsupervise/record/start.json")
        assert instance.reload() == 0
        assert instance.status()["generation"] == 2
        assert instance.uids() == {uid_of(machine)}
        instance.assert_not_pwned()
    finally:
        instance.close()


def test_an_instance_beside_its_unit(machine: Machine) -> None:
    """Typed beside the unit that runs it, `sdsupervise run` starts and reloads nothing, and touches nothing."""
    instance = Instance(machine, "beside", f'user = "{USER}"')
    try:
        instance.start()
        before = machine.run(
            "stat", "-c", "%n %U %a %Z", "/run/sdsupervise/beside", "/run/sdsupervise/beside/beside.pid"
        )
        for words in (["beside"], ["--config", "/etc/sdsupervise/beside.toml"]):
            done = machine.run("sdsupervise", "run", *words, check=False)
            assert done.returncode == 69
            assert re.fullmatch(
                r"beside is run by sdsupervise@beside.service already: not started. To move it to new code: "
                r"systemctl reload sdsupervise@beside.service\n",
                done.stderr,
            )
        after = machine.run(
            "stat", "-c", "%n %U %a %Z", "/run/sdsupervise/beside", "/run/sdsupervise/beside/beside.pid"
        )
        assert before.stdout == after.stdout
        assert instance.status()["generation"] == 1
        assert instance.reload() == 0
    finally:
        instance.close()


def test_code_of_root_that_others_may_write(machine: Machine) -> None:
    """`check` and `unit lint` name it where root is to load it: where nobody names a user, or only the class does."""
    instance = Instance(machine, "written")
    uid = uid_of(machine)

    def named() -> set[str]:
        said = [
            machine.run("sdsupervise", *words, check=False)
            for words in (["check", "written"], ["unit", "lint", "written"])
        ]
        found = [re.findall(rf"uid {uid} may write (\S+), and root", done.stdout + done.stderr) for done in said]
        assert found[0] == found[1]
        return set(found[0])

    try:
        assert named() == {instance.place}
        source = machine.read(f"{instance.place}/service.py")
        machine.write(f"{instance.place}/service.py", source.replace("release =", f'user = "{USER}"\n    release ='))
        assert named() == {instance.place}
        instance.drop_in(f"User={USER}")
        assert named() == set()
        instance.drop_in()
        assert named() == {instance.place}
        file = "/etc/sdsupervise/written.toml"
        machine.write(file, machine.read(file) + f'user = "{USER}"\n')
        assert named() == set()
        machine.run("chown", USER, file)
        assert named() == {file}
    finally:
        instance.close()
