"""`sdsupervise reload` is `systemctl reload`, with the progress and the verdict on the terminal."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.machine import Machine
from tests.support.trial import Trial, source

# Answers Follow as a supervisor does, and lets all else be.
FAKE = """\
import json, os, socket, sys
path = sys.argv[1]
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
print("listens", flush=True)
while True:
    client, _ = server.accept()
    client.recv(65536)
    client.sendall(json.dumps({"parameters": {"at_most": 1}, "continues": True}).encode() + b"\\0")
"""


def reload(trial: Trial, *options: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    become = () if user == "root" else ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
    return trial.machine.run(*become, "/usr/bin/sdsupervise", "reload", trial.name, *options, check=False)


def asked_by(trial: Trial) -> str:
    """Who has asked for the last reload."""
    facts = json.loads(trial.machine.run("sdsupervise", "status", "--json", trial.name).stdout)
    return str(facts["last_reload"]["asked_by"])


def alike(text: str) -> str:
    """Without what is another in every reload."""
    return re.sub(r"[0-9a-f]{16}|\d+(\.\d+)?", "N", text)


@pytest.mark.parametrize("user", ["root", "games"])
def test_a_change_of_the_unit(trial: Trial, user: str) -> None:
    """The unit of today is applied, and the progress shown."""
    trial.install(f"User={user}", "Environment=COLOUR=red")
    trial.start()
    trial.drop_in("Environment=COLOUR=green")
    trial.deploy(2)
    done = reload(trial)
    assert (done.returncode, done.stderr) == (0, "")
    assert trial.assert_serves(2)["environment"]["COLOUR"] == "green"
    assert asked_by(trial).startswith("systemd ")
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("Generation 1 serves")
    assert re.search(rf"^RELOADED in .*; main pid \d+ -> {trial.main_pid}$", last)


def test_an_instance_of_the_template(machine: Machine) -> None:
    """What a file describes is reloaded by its unit, too: with the environment of a new drop-in."""
    machine.write("/srv/shop/shop.py", source(1))
    machine.write("/etc/sdsupervise/shop.toml", 'directory = "/srv/shop"\nservice = "shop.py:Trial"\n')
    template = (
        "[Service]\nType=notify\nExecStart=/usr/bin/sdsupervise run --config /etc/sdsupervise/%i.toml\n"
        "ExecReload=/usr/bin/sdsupervise reload\nRuntimeDirectory=sdsupervise/%i\n"
    )
    machine.write("/run/systemd/system/sdsupervise@.service", template)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", "sdsupervise@shop")
        machine.write("/run/systemd/system/sdsupervise@shop.service.d/x.conf", "[Service]\nEnvironment=COLOUR=green\n")
        machine.run("systemctl", "daemon-reload")
        done = machine.run("sdsupervise", "reload", "sdsupervise@shop.service")
        assert "RELOADED in " in done.stdout
        main = machine.show("sdsupervise@shop", "MainPID")["MainPID"]
        assert "COLOUR=green" in machine.read(f"/proc/{main}/environ").split("\0")
    finally:
        machine.run("systemctl", "stop", "sdsupervise@shop")
        for path in ("sdsupervise@.service", "sdsupervise@shop.service.d"):
            machine.remove(f"/run/systemd/system/{path}")
        machine.remove("/etc/sdsupervise/shop.toml")
        machine.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("code", [None, "import nothing_of_the_sort"], ids=["good", "broken"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_the_same_words(trial: Trial, code: str | None, options: list[str]) -> None:
    """By systemd, as root asks, and by the supervisor, as its own user asks, say the same, with the same status."""
    trial.install("User=games")
    trial.start()
    said = {}
    for release, user in ((2, "root"), (3, "games")):
        trial.deploy(release, code)
        done = reload(trial, *options, user=user)
        assert done.returncode == (0 if code is None else 1), done
        assert asked_by(trial).startswith("systemd" if user == "root" else "pid")
        said[user] = alike(done.stdout), alike(done.stderr)
    assert said["root"] == said["games"]
    assert options or ("RELOADED" in said["root"][0] if code is None else "NOT RELOADED: " in said["root"][1])


def test_one_in_progress(trial: Trial) -> None:
    """A second reload is refused as ever; systemctl would let it wait, and reload twice."""
    warming, go = trial.fifo("warming"), trial.fifo("go")
    trial.start()
    trial.deploy(2, source(2, warm_up=f"open({warming.path!r}, 'w').write('x'); open({go.path!r}).read(1)"))
    with trial.calling("reload") as call:
        warming.read()
        done = reload(trial)
        assert (done.returncode, done.stdout, done.stderr) == (
            1,
            "",
            "NOT RELOADED. A reload is already in progress.\n",
        )
        go.write("x")
        assert call.wait(20) == 0
    trial.assert_serves(2)


def test_it_goes_on(trial: Trial) -> None:
    """--timeout ends the waiting, not the reload."""
    warming, go = trial.fifo("warming"), trial.fifo("go")
    trial.start()
    trial.deploy(2, source(2, warm_up=f"open({warming.path!r}, 'w').write('x'); open({go.path!r}).read(1)"))
    journal = trial.follow()
    done = reload(trial, "--timeout", "2")
    assert (done.returncode, done.stderr.count("\n")) == (124, 1) and "the reload goes on" in done.stderr
    warming.read()
    go.write("x")
    journal.wait_for("Reloaded: generation 2 serves")


@pytest.mark.parametrize("where", ["in no unit", "in the unit", "as another unit"])
def test_somebody_else_answers(trial: Trial, where: str) -> None:
    """Who has put a socket in the place of the supervisor's is not its unit's main process. Nothing is reloaded, and no
    other unit either."""
    path = f"/run/sdsupervise/{trial.name}/control"
    trial.machine.write("/tmp/fake.py", FAKE)
    words = ["python3", "/tmp/fake.py", path]
    trial.machine.write(
        "/run/systemd/system/impostor.service",
        f"[Service]\nExecStart={' '.join(words)}\nExecReload=/usr/bin/touch /tmp/pwned\n",
    )
    trial.start()
    journal = trial.machine.follow_journal()
    try:
        with trial.machine.popen(*(words if where == "in no unit" else ["true"])) as fake:
            if where == "in the unit":
                trial.deploy(2, source(2, warm_up=f"import subprocess; subprocess.Popen({words!r})"))
                assert trial.reload() == 0
                journal.wait_for("listens")
            elif where == "as another unit":
                trial.machine.run("systemctl", "daemon-reload")
                trial.machine.run("systemctl", "start", "impostor")
                journal.wait_for("listens")
            else:
                assert fake.stdout is not None and fake.stdout.readline() == "listens\n"
            done = reload(trial)
        assert done.returncode == 69
        sentence = rf"Pid \d+ answers on {path}, and the main process of {trial.unit} is pid {trial.main_pid}: not "
        command = f"asking it. To have systemd reload the unit: systemctl reload {trial.unit}"
        assert re.fullmatch(f"{sentence}{command}\n", done.stderr), done
        assert not trial.machine.exists("/tmp/pwned")
    finally:
        trial.machine.run("systemctl", "stop", "impostor")
        trial.machine.remove("/run/systemd/system/impostor.service")
        trial.machine.run("systemctl", "restart", trial.unit)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("/bin/false", r"NOT RELOADED\. Job for UNIT failed.* See .*journalctl -xeu UNIT.*"),
        ("/bin/true", r"NOT RELOADED\. systemctl reload UNIT did not reload anything\."),
    ],
)
def test_exec_reload_is_another(trial: Trial, command: str, sentence: str) -> None:
    """Where the unit's ExecReload= does not ask the supervisor, there is no verdict, and systemd's words are shown."""
    trial.install("ExecReload=", f"ExecReload={command}")
    trial.start()
    done = reload(trial)
    assert done.returncode == 1
    assert re.fullmatch(sentence.replace("UNIT", trial.unit) + "\n", done.stderr), done
    trial.assert_serves(1)


def test_exec_reload_does_not_wait(trial: Trial) -> None:
    """What only signals the supervisor is followed to its end all the same."""
    trial.install("ExecReload=", "ExecReload=/bin/sh -c 'kill -USR2 $MAINPID'")
    trial.start()
    trial.deploy(2)
    done = reload(trial)
    assert done.returncode == 0 and "RELOADED in " in done.stdout
    trial.assert_serves(2)


def test_exec_reload_has_more(trial: Trial) -> None:
    """The verdict is good, and what the unit does behind it fails: so does this."""
    trial.install("ExecReload=/bin/false")
    trial.start()
    trial.deploy(2)
    done = reload(trial)
    assert done.returncode == 1 and "RELOADED in " in done.stdout
    assert done.stderr.startswith(
        "The new code serves, but systemd reports that the reload of its unit failed: Job for "
    )
    trial.assert_serves(2)


def test_exec_reload_without_its_environment(trial: Trial) -> None:
    """It does not wait for systemd, which waits for it."""
    trial.install("ExecReload=", f"ExecReload=/usr/bin/env -i /usr/bin/sdsupervise reload {trial.name}")
    trial.start()
    trial.deploy(2)
    assert trial.reload() == 0
    trial.assert_serves(2)


def test_exec_reload_has_come_halfway(trial: Trial) -> None:
    """The unit's own reload does something first: another one is refused meanwhile."""
    first, go = trial.fifo("first"), trial.fifo("go")
    line = f"ExecReload=/bin/sh -c 'echo x >{first.path}; read x <{go.path}'"
    trial.install("ExecReload=", line, "ExecReload=/usr/bin/sdsupervise reload")
    trial.start()
    trial.deploy(2)
    with trial.calling("reload") as call:
        first.read()
        done = reload(trial)
        assert (done.returncode, done.stdout, done.stderr) == (
            1,
            "",
            "NOT RELOADED. A reload is already in progress.\n",
        )
        go.write("x\n")
        assert call.wait(20) == 0
    trial.assert_serves(2)


# So many follow a reload that whoever has followed it before them hears no more.
_CROWD = """
import socket, sys
callers = [socket.socket(socket.AF_UNIX) for _ in range(8)]
for caller in callers:
    caller.connect(sys.argv[1])
    caller.sendall(b'{"method": "io.sdsupervise.Follow", "more": true}\\0')
    assert caller.recv(1)
"""


@pytest.mark.parametrize("good", [True, False])
def test_the_supervisor_tells_no_more(trial: Trial, good: bool) -> None:
    """Where the connection to it is lost, systemd has the verdict."""
    first, go = trial.fifo("first"), trial.fifo("go")
    line = f"ExecReload=/bin/sh -c 'echo x >{first.path}; read x <{go.path}'"
    trial.install("ExecReload=", line, "ExecReload=/usr/bin/sdsupervise reload")
    trial.start()
    trial.deploy(2, None if good else "1/0")
    with trial.machine.popen("sdsupervise", "reload", trial.name) as call:
        first.read()
        trial.machine.run("python3", "-c", _CROWD, f"/run/sdsupervise/{trial.name}/control")
        go.write("x\n")
        out, error = call.communicate(timeout=20)
    control = f"/run/sdsupervise/{trial.name}/control"
    assert (call.returncode, out, error) == (
        (0, "systemd reports that the reload succeeded; the supervisor sent no details.\n", "")
        if good
        else (69, "", f"The supervisor on {control} ended before it answered.\n")
    )
    trial.assert_serves(2 if good else 1)


def test_by_another_unit(trial: Trial) -> None:
    """ExecStartPost= of another unit has an environment like that of ExecReload=. What it reloads stays what it is."""
    trial.start()
    trial.deploy(2)
    lines = [
        "[Service]",
        "Environment=COLOUR=wrong",
        "ExecStart=/bin/sleep infinity",
        f"ExecStartPost=/usr/bin/sdsupervise reload {trial.name}",
    ]
    trial.machine.write("/run/systemd/system/deployer.service", "\n".join([*lines, ""]))
    trial.machine.run("systemctl", "daemon-reload")
    try:
        trial.machine.run("systemctl", "start", "deployer")
        assert "COLOUR" not in trial.assert_serves(2)["environment"]
        assert asked_by(trial).startswith("systemd")
    finally:
        trial.machine.run("systemctl", "stop", "deployer")
        trial.machine.remove("/run/systemd/system/deployer.service")


def test_exec_reload_names_it(trial: Trial) -> None:
    """ExecReload= may say which instance, by its name or its pid file."""
    pid_file = f"--pid-file /run/sdsupervise/{trial.name}/{trial.name}.pid"
    for number, words in enumerate((trial.name, pid_file), 2):
        trial.install("ExecReload=", f"ExecReload=/usr/bin/sdsupervise reload {words}", f"Environment=COLOUR={number}")
        if number == 2:
            trial.start()
        trial.deploy(number)
        assert trial.reload() == 0
        assert trial.assert_serves(number)["environment"]["COLOUR"] == str(number)


def test_no_exec_reload(trial: Trial) -> None:
    """A unit without ExecReload= is none that systemd can reload: the supervisor does, and what is not applied is
    said."""
    trial.install("ExecReload=", "Environment=COLOUR=red")
    trial.start()
    trial.deploy(2)
    done = reload(trial)
    assert done.returncode == 0 and "ExecReload" not in done.stdout
    trial.drop_in("Environment=COLOUR=green")
    done = reload(trial)
    drop_in = f"/run/systemd/system/{trial.unit}.d/edit.conf"
    assert f"{drop_in} is newer than what runs, and {trial.unit} has no ExecReload= to apply that\n" in done.stdout
    assert trial.assert_serves(2)["environment"]["COLOUR"] == "red"


def test_what_another_user_cannot_have_applied(trial: Trial) -> None:
    """The service's user reloads the code; of a changed unit it is said who can have that applied."""
    trial.install("User=games", "Environment=COLOUR=red")
    trial.start()
    assert "systemctl" not in reload(trial, user="games").stdout
    trial.drop_in("Environment=COLOUR=green")
    done = reload(trial, user="games")
    drop_in = f"/run/systemd/system/{trial.unit}.d/edit.conf"
    sentence = f"{drop_in} is newer than what runs, and only root can apply that: systemctl reload {trial.unit}"
    assert done.returncode == 0 and done.stdout.splitlines()[0] == sentence
    assert trial.ask()["environment"]["COLOUR"] == "red"


def test_without_daemon_reload(trial: Trial) -> None:
    """What systemd has not read yet it cannot apply: that is said before the reload."""
    trial.drop_in("Environment=COLOUR=red")
    trial.start()
    trial.machine.write(f"/run/systemd/system/{trial.unit}.d/edit.conf", "[Service]\nEnvironment=COLOUR=green\n")
    done = reload(trial)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        f"{trial.unit} has changed on disk, and systemd has not read it yet: run 'systemctl daemon-reload' first "
        "to apply it",
    )
    assert trial.ask()["environment"]["COLOUR"] == "red"


PLAIN = """\
import os, time
from sdsupervise import SupervisedDaemon

class Service(SupervisedDaemon):
    can_do_hot_reload = True

    def supervised_process(self):
        self.ready_to_take_over()
        print("colour", os.environ.get("COLOUR"), flush=True)
        while True:
            self.ping_supervisor()
            time.sleep(0.2)

    def supervised_shutdown(self):
        pass
"""


def test_below_another_unit(machine: Machine) -> None:
    """What runs below a unit that has nothing to do with it, as cron's jobs do, is reloaded by itself."""
    machine.write("/srv/job/job.py", PLAIN)
    command = "sdsupervise run --pid-file /run/job.pid /srv/job/job.py:Service"
    machine.write("/run/systemd/system/cronlike.service", f"[Service]\nExecStart=/bin/sh -c '{command}; true'\n")
    machine.run("systemctl", "daemon-reload")
    journal = machine.follow_journal("cronlike")
    try:
        machine.run("systemctl", "start", "cronlike")
        journal.wait_for("Generation 1 serves")
        done = machine.run("sdsupervise", "reload", "--pid-file", "/run/job.pid")
        assert "RELOADED in " in done.stdout and "unit" not in done.stdout
    finally:
        machine.run("systemctl", "stop", "cronlike")
        machine.remove("/run/systemd/system/cronlike.service")


@pytest.fixture
def anna(machine: Machine) -> Iterator[dict[str, str]]:
    """A user with a systemd of her own, which runs an instance; what her programs find in their environment."""
    machine.run("useradd", "--create-home", "anna")
    uid = machine.run("id", "-u", "anna").stdout.strip()
    home = "/home/anna/.config"
    machine.write("/srv/hers/hers.py", PLAIN)
    machine.write(f"{home}/sdsupervise/hers.toml", 'directory = "/srv/hers"\nservice = "hers.py:Service"\n')
    machine.write(
        f"{home}/systemd/user/sdsupervise@.service",
        "[Service]\nType=notify\nExecStart=/usr/bin/sdsupervise run --config %E/sdsupervise/%i.toml\n"
        "ExecReload=/usr/bin/sdsupervise reload\nRuntimeDirectory=sdsupervise/%i\n",
    )
    # What pam_systemd would say, which is not on this machine.
    where = "/run/systemd/system/user@.service.d/where.conf"
    machine.write(where, "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n")
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", f"user@{uid}.service")
        yield {"XDG_RUNTIME_DIR": f"/run/user/{uid}", "HOME": "/home/anna"}
    finally:
        machine.run("systemctl", "stop", f"user@{uid}.service")
        machine.run("userdel", "--remove", "anna", check=False)
        machine.remove(where)
        machine.run("systemctl", "daemon-reload")


def test_an_instance_of_a_user(machine: Machine, anna: dict[str, str]) -> None:
    """Its user has her own systemd reload it. root cannot ask that one: the supervisor reloads itself, and it is said
    that no change of the unit is applied."""
    become = ("setpriv", "--reuid=anna", "--regid=anna", "--init-groups")
    machine.run(*become, "systemctl", "--user", "start", "sdsupervise@hers", env=anna)
    drop_in = "/home/anna/.config/systemd/user/sdsupervise@hers.service.d/edit.conf"

    def colour() -> str:
        main = machine.run(*become, "systemctl", "--user", "show", "-P", "MainPID", "sdsupervise@hers", env=anna)
        return machine.read(f"/proc/{main.stdout.strip()}/environ").partition("COLOUR=")[2].partition("\0")[0]

    for which in ("red", "green"):
        machine.write(drop_in, f"[Service]\nEnvironment=COLOUR={which}\n")
        machine.run(*become, "systemctl", "--user", "daemon-reload", env=anna)
        if which == "red":
            done = machine.run(*become, "sdsupervise", "reload", "hers", env=anna)
            assert "RELOADED in " in done.stdout and colour() == "red"
    would = machine.run(*become, "sdsupervise", "reload", "--outdated", "--dry-run", "hers", env=anna)
    assert would.stdout == f"Would reload hers: {drop_in} is newer than what runs.\n"
    done = machine.run("sdsupervise", "reload", "--pid-file", f"{anna['XDG_RUNTIME_DIR']}/sdsupervise/hers/hers.pid")
    uid = anna["XDG_RUNTIME_DIR"].rpartition("/")[2]
    sentence = (
        f"The systemd of uid {uid} runs this unit, and only that user may use it: no change of the unit is applied"
    )
    assert done.stdout.splitlines()[0] == sentence and "RELOADED in " in done.stdout
    assert colour() == "red"


def test_outdated(trial: Trial) -> None:
    """A unit that has changed since the start makes an instance outdated, whether or not systemd has read it; a reload
    mends that."""
    words = ("sdsupervise", "reload", "--outdated", "--json", trial.name)
    trial.machine.write("/etc/default/colour", "COLOUR=red\n")
    trial.install("EnvironmentFile=/etc/default/colour")
    trial.drop_in("Environment=SIZE=small")
    trial.start()

    def why() -> list[str]:
        would = trial.machine.run(*words, "--dry-run").stdout.splitlines()
        return [str(json.loads(line)["why"]) for line in would]

    assert why() == []
    drop_in = f"/run/systemd/system/{trial.unit}.d/edit.conf"
    trial.machine.write(drop_in, "[Service]\nEnvironment=SIZE=big\n")
    assert why() == [f"{trial.unit} has changed on disk, and systemd has not read it yet"]
    trial.machine.run("systemctl", "daemon-reload")
    assert why() == [f"{drop_in} is newer than what runs"]
    trial.machine.run(*words)
    assert trial.ask()["environment"]["SIZE"] == "big"
    assert why() == []
    # As a package brings it, with the time of its making.
    trial.machine.write(f"{drop_in}.new", "[Service]\nEnvironment=SIZE=huge\n")
    trial.machine.run("touch", "-d", "2020-01-01", f"{drop_in}.new")
    trial.machine.run("mv", f"{drop_in}.new", drop_in)
    trial.machine.run("systemctl", "daemon-reload")
    assert why() == [f"{drop_in} is newer than what runs"]
    trial.machine.run(*words)
    assert trial.ask()["environment"]["SIZE"] == "huge"
    trial.machine.write("/etc/default/colour", "COLOUR=green\n")
    assert why() == ["/etc/default/colour is newer than what runs"]
    trial.machine.run(*words)
    assert trial.ask()["environment"]["COLOUR"] == "green"
    assert why() == []


def test_outdated_unit_of_a_command_that_is_reloaded_by_a_signal(machine: Machine) -> None:
    """No signal applies a change of the unit: the command line says so, and that a restart does."""
    words = ("sdsupervise", "reload", "--outdated", "rereads")
    machine.write("/srv/rereads", "#!/bin/sh\ntrap : HUP\nwhile :; do sleep 1; done\n", mode=0o755)
    run = "/usr/bin/sdsupervise run --ready-after 0.1 --reload-signal SIGHUP -- /srv/rereads"
    machine.write(
        "/run/systemd/system/rereads.service",
        f"[Service]\nType=notify\nKillMode=mixed\nRuntimeDirectory=sdsupervise/rereads\nExecStart={run}\n"
        "ExecReload=/usr/bin/sdsupervise reload\n",
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "rereads")
    assert machine.run(*words).stdout == "1 instance runs what is on disk: nothing to reload.\n"
    drop_in = "/run/systemd/system/rereads.service.d/edit.conf"
    machine.write(drop_in, "[Service]\nEnvironment=SIZE=big\n")
    machine.run("systemctl", "daemon-reload")
    refused = machine.run(*words, check=False)
    assert refused.returncode == 1
    assert f"rereads needs a restart: {drop_in} is newer than what runs." in refused.stderr.replace("\n", " ")
    machine.run("systemctl", "restart", "rereads")
    assert "nothing to reload" in machine.run(*words).stdout
    machine.run("systemctl", "stop", "rereads")
    machine.run("rm", "-r", "/run/systemd/system/rereads.service", "/run/systemd/system/rereads.service.d")
    machine.run("systemctl", "daemon-reload")
