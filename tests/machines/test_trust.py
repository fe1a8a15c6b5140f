"""From the service's user to root there is no way: each sentence of packaging/doc/security.md that needs a systemd."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.processes.test_answers import STATUS
from tests.support.fixtures import Equipment
from tests.support.machine import Machine
from tests.support.trial import wait_for_all

MACHINE = Equipment(units=True)

TEMPLATE = "sdsupervise@.service"
USER = "games"

# Says who it was loaded as, and who serves; what a test puts into /srv/NAME/late.py is run by the worker.
SOURCE = '''\
import os, time
with open(os.environ.get("LOADED", "/tmp/loaded"), "a") as file:
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


class Instance:
    """An instance whose code is its user's own to write."""

    def __init__(self, machine: Machine, name: str, *lines: str, user: str = USER) -> None:
        self.machine, self.name, self.unit = machine, name, f"sdsupervise@{name}.service"
        self.place = f"/srv/{name}"
        machine.run("rm", "-rf", self.place)
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
                r"sdsupervise@beside.service already runs beside: not started. To move it to new code: "
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


# What a worker does that somebody has taken over: it speaks to systemd itself, as a supervisor would.
_SPEAKS_TO_SYSTEMD = """\
import os, socket
speaker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
speaker.connect("/run/systemd/notify")
for said in (f"MAINPID={os.getpid()}", "STATUS=mine", "RELOADING=1", "STOPPING=1", "WATCHDOG=trigger", "FDSTORE=1"):
    speaker.send(said.encode())
print("has spoken", flush=True)
"""


@pytest.mark.parametrize("way", ["user =", "User="])
def test_a_worker_does_not_speak_to_systemd(machine: Machine, way: str) -> None:
    """NotifyAccess=main: what a worker says of the main pid, of readiness and of the watchdog is not listened to."""
    instance = Instance(machine, f"speaks{len(way)}", *[f'user = "{USER}"'] * (way == "user ="))
    try:
        instance.drop_in(*[f"User={USER}"] * (way == "User="))
        machine.write(f"{instance.place}/late.py", _SPEAKS_TO_SYSTEMD)
        journal = machine.follow_journal(instance.unit)
        instance.start()
        pid = instance.status()["pid"]
        wait_for_all(journal, "has spoken")
        assert instance.reload() == 0  # by which time systemd has read it all
        after = machine.show(
            instance.unit, "MainPID", "ActiveState", "SubState", "NRestarts", "StatusText", "NFileDescriptorStore"
        )
        assert after.pop("MainPID") == str(instance.status()["pid"]) != str(pid)
        assert after.pop("StatusText").startswith("Generation 2 serves")
        assert after == {"ActiveState": "active", "SubState": "running", "NRestarts": "0", "NFileDescriptorStore": "0"}
    finally:
        instance.close()


@pytest.mark.parametrize("way", ["User=", "DynamicUser="])
def test_nothing_of_a_user_s_unit_is_root(machine: Machine, way: str) -> None:
    """Neither what ExecStart= starts nor what ExecReload= starts: the code of each generation is loaded as the user."""
    instance = Instance(machine, f"never{len(way)}")
    try:
        machine.run("install", "-m", "666", "/dev/null", "/srv/uids")
        user = f"User={USER}" if way == "User=" else "DynamicUser=yes"
        instance.drop_in(user, "Environment=LOADED=/srv/uids", "ReadWritePaths=/srv/uids")
        instance.start()
        assert instance.reload() == 0
        first, second = machine.read("/srv/uids").split()
        assert {first, second} == instance.uids() and first == second != "0"
    finally:
        instance.close()


def test_root_looks_at_its_own_places(machine: Machine) -> None:
    """Whatever $XDG_RUNTIME_DIR and $XDG_CONFIG_HOME say, root's commands find no instance of a user's own."""
    machine.run("rm", "-rf", "/run/theirs")
    machine.run("install", "-d", "-o", USER, "/run/theirs/sdsupervise/mine")
    machine.write("/run/theirs/sdsupervise/mine.toml", "not even TOML")
    machine.write("/tmp/fake.py", FAKE)
    become = ["setpriv", f"--reuid={USER}", "--clear-groups"]
    with machine.popen(*become, "python3", "/tmp/fake.py", "/run/theirs/sdsupervise/mine/control") as fake:
        assert fake.stdout is not None and fake.stdout.readline() == "listens\n"
        theirs = ["env", "XDG_RUNTIME_DIR=/run/theirs", "XDG_CONFIG_HOME=/run/theirs", "sdsupervise"]
        assert machine.run(*theirs, "list", "--json").stdout == ""
        for words in (["status", "mine"], ["reload", "mine"], ["check", "mine"], ["run", "mine"]):
            done = machine.run(*theirs, *words, check=False)
            assert done.returncode in (69, 78) and "/run/theirs" not in done.stdout + done.stderr
        fake.kill()


# What a worker does that somebody has taken over: it puts its own socket in the place of its supervisor's.
_TAKES_THE_PLACE = """\
import os
place = os.environ["RUNTIME_DIRECTORY"] + "/control"
os.unlink(place)
os.spawnlp(os.P_NOWAIT, "python3", "python3", "/tmp/fake.py", place)
"""


@pytest.mark.parametrize("record", ["root's", "the worker's"])
@pytest.mark.parametrize("way", ["user =", "PermissionsStartOnly="])
def test_a_worker_that_answers_in_the_supervisor_s_place(machine: Machine, way: str, record: str) -> None:
    """Root's `systemctl reload` fails. Nothing is executed of what the worker answers, or writes into the start record,
    and no code of its is loaded as root."""
    instance = Instance(machine, f"place{len(way)}", *[f'user = "{USER}"'] * (way == "user ="))
    run = f"/run/sdsupervise/{instance.name}"
    try:
        if way != "user =":
            instance.drop_in(f"User={USER}", "PermissionsStartOnly=yes")
        machine.write("/tmp/fake.py", FAKE)
        journal = machine.follow_journal(instance.unit)
        instance.start()
        machine.run("chown", USER, run)  # which the template does not do
        text = _TAKES_THE_PLACE
        if record != "root's":
            own = json.dumps({"argv": ["/usr/bin/touch", "/tmp/pwned"], "environment": {}})
            text += f"os.unlink(place[:-7] + 'start.json')\nopen(place[:-7] + 'start.json', 'w').write({own!r})\n"
        machine.write(f"{instance.place}/late.py", text)
        workers = instance.status()["workers"]
        assert isinstance(workers, list)
        machine.kill(workers[0]["pid"], signal.SIGTERM)
        wait_for_all(journal, "listens")
        assert instance.reload() != 0
        instance.assert_not_pwned()
        assert set(instance.loaded_as()) == {uid_of(machine)}
    finally:
        instance.close()


STORES = """
import array, os, signal, socket
from sdsupervise.linux.inheritance import this_invocation

def attack():
    if os.getuid() == 0 or os.path.exists("stored"):
        return
    open("stored", "w").close()
    victim = os.lstat("/etc/victim")
    os.makedirs("a/b")
    os.mkdir("etc")
    os.chdir("a/b")
    stored = socket.socket(socket.AF_UNIX)
    stored.bind("/proc/self/cwd/../../etc/victim")
    stored.listen()
    os.chdir("../..")
    notify = this_invocation().environment["NOTIFY_SOCKET"]
    label = f"sdsupervise/zz/1.{victim.st_dev:x}.{victim.st_ino:x}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [stored.fileno()]))]
        end.sendmsg([f"FDSTORE=1\\nFDNAME={label}".encode()], passed, 0, notify.replace("@", "\\0"))
    open("new", "w").close()
    os.rename("new", "app.sock")  # what root is to listen on is no socket
    print("stored", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

attack()
"""
LIES = """
import os
from sdsupervise.sockets import listeners as listening

def lie(self):
    victim = os.lstat("/run/other/app.sock")
    facts = truth(self)
    for fact in facts:
        fact["file"] = ("/run/other/app.sock", victim.st_dev, victim.st_ino)
    os.rename("run", "away")
    os.symlink("/run/other", "run")
    return facts

truth = listening.Listening.for_successor
if os.getuid() != 0 and not os.path.exists("away"):
    listening.Listening.for_successor = lie
"""


def test_a_socket_that_the_service_s_user_has_stored(machine: Machine) -> None:
    """Whoever speaks to systemd in the supervisor's place can have it keep a socket by a name that says which file is
    its own. Root, which starts the service again, removes nothing by that name."""
    instance = Instance(machine, "stores", f'user = "{USER}"', 'listen.app = "/srv/stores/app.sock"')
    try:
        machine.write("/etc/victim", "root's\n")
        machine.run("chmod", "600", "/etc/victim")
        machine.write(f"{instance.place}/service.py", STORES + SOURCE.replace("RELEASE", "1"))
        journal = machine.follow_journal(instance.unit)
        machine.run("systemctl", "start", instance.unit, check=False)
        wait_for_all(journal, "stored", "Cannot listen on /srv/stores/app.sock")
        assert machine.read("/etc/victim") == "root's\n"
    finally:
        instance.close()


def test_a_predecessor_that_lies_about_its_files(machine: Machine) -> None:
    """Root's successor makes no socket where its predecessor says that the old one is."""
    checked = 'handover = "overlap"\nbefore_commit = ["true"]'
    listen = f'listen.app = {{ address = "/srv/lies/run/app.sock", user = "{USER}" }}'
    instance = Instance(machine, "lies", f'user = "{USER}"', checked, listen)
    try:
        machine.run("install", "-d", "-o", USER, "/srv/lies/run")
        binds = "import socket; socket.socket(socket.AF_UNIX).bind('/run/other/app.sock')"
        machine.run("sh", "-c", f'mkdir -p /run/other; python3 -c "{binds}"')
        machine.write(f"{instance.place}/service.py", LIES + SOURCE.replace("RELEASE", "1"))
        instance.start()
        instance.reload()
        assert machine.run("readlink", f"{instance.place}/run").stdout == "/run/other\n"
        assert machine.run("ls", "/run/other").stdout == "app.sock\n"
        assert machine.run("stat", "-c", "%U", "/run/other/app.sock").stdout == "root\n"
    finally:
        instance.close()


def test_the_template_s_run_directory_is_root_s(machine: Machine) -> None:
    """With `user` the service cannot put another socket, or another record, in the place of its supervisor's."""
    instance = Instance(machine, "roots", f'user = "{USER}"')
    try:
        instance.start()
        run = "/run/sdsupervise/roots"
        for name in ("control", "start.json", "new"):
            done = machine.run(
                "setpriv", f"--reuid={USER}", "--clear-groups", "ln", "-sfn", "/x", f"{run}/{name}", check=False
            )
            assert "Permission denied" in done.stderr
        assert instance.reload() == 0
    finally:
        instance.close()


def test_a_symlink_to_another_control_socket(machine: Machine) -> None:
    """Whoever owns a run directory cannot have root's command speak to another service, or to the system bus."""
    instance = Instance(machine, "other")
    try:
        instance.start()
        machine.run("install", "-d", "-o", USER, "/run/sdsupervise/leads")
        for target in ("/run/sdsupervise/other/control", "/run/dbus/system_bus_socket"):
            machine.run("ln", "-sfn", target, "/run/sdsupervise/leads/control")
            for words in (["reload", "leads"], ["status", "leads"], ["scale", "leads", "1"]):
                done = machine.run("sdsupervise", *words, check=False)
                assert done.returncode == 69 and "Nobody listens on /run/sdsupervise/leads/control" in done.stderr
        assert instance.status()["generation"] == 1
    finally:
        instance.close()
        machine.run("rm", "-rf", "/run/sdsupervise/leads")


# A supervisor that somebody made up: it answers as a file says. By Delegate= it runs below its unit where it likes.
ANSWERS = """\
import json, os, socket, sys
place, moves_to = sys.argv[1:]
with open("/proc/self/cgroup") as file:
    own = [line.rstrip("\\n").split(":", 2)[2] for line in file if line.split(":")[1] in ("", "name=systemd")]
for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
    for path in own if moves_to else ():
        if os.access(top + path, os.W_OK):
            os.makedirs(f"{top}{path}/{moves_to}", exist_ok=True)
            with open(f"{top}{path}/{moves_to}/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
server = socket.socket(socket.AF_UNIX)
server.bind(place)
os.chmod(place, 0o777)
server.listen()
print("listens", flush=True)
with open("/tmp/answers.json") as file:
    answers = json.load(file)
while True:
    client, _ = server.accept()
    with client:
        while asked := client.recv(65536):
            answer = answers[json.loads(asked[:-1])["method"].rpartition(".")[2]]
            if "parameters" in answer and answer["parameters"].get("pid"):
                answer["parameters"]["pid"] = os.getpid()
            client.sendall(json.dumps(answer).encode() + b"\\0")
"""


def told_of_a_silent_worker(machine: Machine, pid: int) -> tuple[int, str]:
    """The status of root's reload, and what it prints, where a made-up supervisor answers that this process was a
    worker which died without a message."""
    machine.run("install", "-d", "-o", USER, "/run/sdsupervise/asks")
    machine.write("/tmp/answers.py", ANSWERS)
    failed = {"reason": "x", "outcome": "y", "silent_worker": pid}
    failure = {"error": "io.sdsupervise.ReloadFailed", "parameters": failed}
    machine.write("/tmp/answers.json", json.dumps({"Follow": failure, "Reload": failure}))
    become = ["setpriv", f"--reuid={USER}", "--clear-groups"]
    try:
        with machine.popen(*become, "python3", "/tmp/answers.py", "/run/sdsupervise/asks/control", "") as fake:
            assert fake.stdout is not None and fake.stdout.readline() == "listens\n"
            done = machine.run("sdsupervise", "reload", "asks", check=False)
            fake.kill()
        return done.returncode, done.stderr
    finally:
        machine.run("rm", "-rf", "/run/sdsupervise/asks")


def test_the_words_of_another_s_process(machine: Machine) -> None:
    """Whoever answers that a worker died without a message cannot have root print the journal of whom he likes."""
    machine.run("systemd-run", "--quiet", "--wait", "--unit=secretive", "sh", "-c", "echo TOP SECRET; true")
    machine.run("journalctl", "--sync")
    said = machine.run("journalctl", "--quiet", "--output=json", "_UID=0", "MESSAGE=TOP SECRET").stdout
    pid = int(json.loads(said.splitlines()[-1])["_PID"])
    assert told_of_a_silent_worker(machine, pid) == (1, "NOT RELOADED: x. y\n")


def test_words_without_an_end(machine: Machine) -> None:
    """What the service's user has written to the journal is shown to root, but no more of it than people read."""
    writes = "import os; print(os.getpid(), *['x' * 40_000] * 19, sep='\\n', flush=True)"
    machine.run("systemd-run", "--quiet", "--wait", f"--uid={USER}", "--unit=talks", "python3", "-c", writes)
    machine.run("journalctl", "--sync")
    pid = int(machine.run("journalctl", "--quiet", "--output=cat", "--unit=talks", "--grep=^[0-9]+$").stdout.split()[0])
    status, shown = told_of_a_silent_worker(machine, pid)
    assert status == 1 and shown.endswith("x\nNOT RELOADED: x. y\n")
    assert 40_000 < len(shown) < 300_000


@pytest.mark.parametrize("name", ["x$(touch pwned).service", "-Hevil.service"])
def test_a_unit_s_name_that_is_none(machine: Machine, name: str) -> None:
    """Who may name what is below his unit cannot have root shown a command that does more than it seems to."""
    machine.write("/tmp/answers.py", ANSWERS)
    machine.write("/tmp/answers.json", json.dumps({"Status": {"parameters": {**STATUS, "name": "names", "pid": 1}}}))
    start = f'ExecStart=/usr/bin/python3 /tmp/answers.py /run/sdsupervise/names/control "{name.replace("$", "$$")}"'
    unit = ["[Service]", f"User={USER}", "Delegate=yes", "RuntimeDirectory=sdsupervise/names", start, ""]
    machine.write("/run/systemd/system/names.service", "\n".join(unit))
    machine.run("systemctl", "daemon-reload")
    try:
        journal = machine.follow_journal("names.service")
        machine.run("systemctl", "start", "names.service")
        wait_for_all(journal, "listens")
        pid = json.loads(machine.run("sdsupervise", "status", "names", "--json").stdout)["pid"]
        assert name in machine.read(f"/proc/{pid}/cgroup")
        shown = machine.run("sdsupervise", "status", "names").stdout
        assert "names   serving" in shown and name not in shown
        assert json.loads(machine.run("sdsupervise", "status", "names", "--json").stdout)["unit"] == ""
    finally:
        machine.run("systemctl", "stop", "names.service")
        machine.remove("/run/systemd/system/names.service")
        machine.run("systemctl", "daemon-reload")


def test_a_record_that_systemd_has_made_root_s(machine: Machine) -> None:
    """When User= is taken away, systemd gives the run directory, and all that lies in it, to root. What the user has
    written there is not executed all the same."""
    instance = Instance(machine, "given")
    record = "/run/sdsupervise/given/start.json"
    try:
        instance.drop_in(f"User={USER}")
        instance.start()
        machine.write(record, json.dumps({"argv": ["/usr/bin/touch", "/tmp/pwned"], "environment": {}}), mode=0o600)
        machine.run("chown", USER, record)
        instance.drop_in()
        instance.reload()
        assert machine.run("stat", "--format=%U", record).stdout == "root\n"
        instance.assert_not_pwned()
    finally:
        instance.close()


# What x writes there is executed by every Python that has the variable, before anything else.
_PLANTED = 'import os; os.getuid() == 0 and open("/tmp/pwned", "a").write(open("/proc/self/cmdline").read())\n'
LED = {  # the variable's value, and what can be planted
    "HOME": ("/srv/led", "/srv/led/.local/lib/VERSION/site-packages/planted.pth"),
    "PYTHONUSERBASE": ("/srv/led/base", "/srv/led/base/lib/VERSION/site-packages/planted.pth"),
    "PYTHONPATH": ("/usr/lib:/srv/led/lib", "/srv/led/lib/sitecustomize.py"),
}


def planted(machine: Machine, path: str) -> None:
    """As their user, who may do that once there is the unit."""
    version = machine.run("python3", "-c", 'import sys; print("python%d.%d" % sys.version_info[:2])').stdout.strip()
    machine.write(path.replace("VERSION", version), _PLANTED)
    machine.run("chown", "-R", f"{USER}:", "/srv/led")


@pytest.mark.parametrize("variable", LED)
def test_variables_that_lead_to_others(machine: Machine, variable: str) -> None:
    """With `user`, root does not start a unit whose variables have root's Python execute what others may write."""
    value, path = LED[variable]
    instance = Instance(machine, "led", f'user = "{USER}"')
    try:
        instance.drop_in(f"Environment={variable}={value}")
        assert machine.run("systemctl", "start", instance.unit, check=False).returncode != 0
        shown = machine.run("systemctl", "show", "--property=ExecMainStatus,ActiveState", instance.unit).stdout
        assert set(shown.split()) == {"ExecMainStatus=78", "ActiveState=failed"}
        said = machine.run("journalctl", "--output=cat", f"--unit={instance.unit}").stdout
        assert f"code from the directories in {variable}, and uid {uid_of(machine)} may write /srv/led. " in said
        planted(machine, path)
        instance.reload()
        instance.assert_not_pwned()
        for words in (["check", "led"], ["unit", "lint", "led"]):
            done = machine.run("sdsupervise", *words, check=False)
            assert done.returncode != 0
            assert f"may write /srv/led, and root's processes execute code from there ({variable})" in (
                done.stdout + done.stderr
            )
    finally:
        instance.close()


def test_variables_that_come_with_a_reload(machine: Machine) -> None:
    """Such a variable in a unit that runs: the first reload fails, and says why. The old code serves."""
    instance = Instance(machine, "led", f'user = "{USER}"')
    try:
        instance.start()
        instance.drop_in("Environment=HOME=/srv/led")
        assert instance.reload() != 0
        said = machine.run("journalctl", "--output=cat", f"--unit={instance.unit}").stdout
        assert f"code from the directories in HOME, and uid {uid_of(machine)} may write /srv/led. " in said
        assert instance.status()["generation"] == 1
        instance.drop_in("Environment=HOME=/root PYTHONPATH=/usr/lib")
        assert instance.reload() == 0
        assert instance.status()["generation"] == 2
    finally:
        instance.close()


def test_variables_of_a_service_that_stays_root(machine: Machine) -> None:
    """There nobody becomes another user, and whoever may write its code is root anyway: `check` says so."""
    instance = Instance(machine, "led")
    try:
        instance.drop_in("Environment=HOME=/srv/led")
        instance.start()
        assert instance.reload() == 0
    finally:
        instance.close()


# In the supervisor: another process repeats its order to start a successor, so that systemd is asked whose it is.
_REPEATS = """\
import os, socket
from sdsupervise.control import connection
send = connection.Connection.send
def repeated(self, data, fds):
    if not fds or b'"spawn"' not in data:
        return send(self, data, fds)
    pid = os.fork()
    if pid == 0:
        socket.send_fds(self._peer, [data], list(fds))
        os._exit(0)
    os.waitpid(pid, 0)
connection.Connection.send = repeated
"""
_OTHERS_PATH = "PATH=/srv/path/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def path_of_others(machine: Machine) -> None:
    for name in ("systemctl", "journalctl"):
        script = f'#!/bin/sh\ntest $(id -u) != 0 || touch /tmp/pwned\nexec /usr/bin/{name} "$@"\n'
        machine.write(f"/srv/path/bin/{name}", script, mode=0o755)
    machine.run("chown", "-R", f"{USER}:", "/srv/path")


def test_programs_in_a_path_of_others(machine: Machine) -> None:
    """The process of ExecReload= asks systemd which process is the unit's main one, by root's own systemctl."""
    instance = Instance(machine, "path", f'user = "{USER}"')
    try:
        path_of_others(machine)
        instance.drop_in(f"Environment={_OTHERS_PATH}")
        machine.write(f"{instance.place}/service.py", _REPEATS + SOURCE.replace("RELEASE", "1"))
        instance.start()
        assert instance.reload() != 0  # since systemd was asked
        instance.assert_not_pwned()
        for words in (["check", "path"], ["unit", "lint", "path"]):
            done = machine.run("sdsupervise", *words, check=False)
            assert (
                "may write /srv/path, and root's processes look programs up there (PATH)" in done.stdout + done.stderr
            )
    finally:
        instance.close()


@pytest.mark.parametrize("words", ["reload path", "status path", "check path", "unit lint path", "reload --outdated"])
def test_root_s_commands_in_a_path_of_others(machine: Machine, words: str) -> None:
    """Nor do root's commands execute a systemctl, or a journalctl, that somebody else has put into their PATH."""
    instance = Instance(machine, "path", f'user = "{USER}"')
    try:
        path_of_others(machine)
        instance.start()
        machine.run("env", _OTHERS_PATH, "sdsupervise", *words.split(), check=False)
        instance.assert_not_pwned()
    finally:
        instance.close()


@pytest.mark.parametrize("who", ["the supervisor", "the command"])
def test_last_words_in_a_path_of_others(machine: Machine, who: str) -> None:
    """Nor does a supervisor that is root, where it looks for what a service's command has written; nor `reload`, by
    root, where the supervisor may not read that."""
    user = f'user = "{USER}"\n' if who == "the command" else ""
    machine.write("/opt/words.sh", "echo READY=1; exec sleep infinity\n")
    machine.write("/etc/sdsupervise/words.toml", 'command = ["/bin/sh", "/opt/words.sh"]\nready_after = 0.1\n' + user)
    unit = "sdsupervise@words.service"
    path_of_others(machine)
    machine.run("rm", "-f", "/tmp/pwned")
    machine.write(f"/run/systemd/system/{unit}.d/test.conf", f"[Service]\nEnvironment={_OTHERS_PATH}\n")
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", unit)
        machine.write("/opt/words.sh", "echo its last words >&2; exit 7\n")
        done = machine.run("env", _OTHERS_PATH, "sdsupervise", "reload", "words", check=False)
        assert done.returncode != 0 and "its last words" in done.stderr
        assert machine.run("test", "-e", "/tmp/pwned", check=False).returncode == 1
    finally:
        machine.run("systemctl", "stop", unit)
        machine.run("rm", "-rf", f"/run/systemd/system/{unit}.d", "/etc/sdsupervise/words.toml")
        machine.run("systemctl", "daemon-reload")
