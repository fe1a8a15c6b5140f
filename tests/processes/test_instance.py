"""`sdsupervise run NAME`: what a file says, and that each generation reads it anew."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from sdsupervise.control.client import Client
from tests.support.harness import SDSUPERVISE, Ground, installed_package, service, status_at
from tests.support.running import LIMIT_SECONDS, Running, wait_gone

KNOWS = service(
    """
    options = ({"name": "port", "option_type": "integer", "default": 1},)
    stop_timeout = 11.0
    probation = 0.25
    def serve(self):
        report("knows", stop=self.stop_timeout, probation=self.probation, handover=self.handover, workers=self.workers,
               port=self.get_option("port"), rest=self.parsed_args, sockets=sorted(self.sockets),
               at=os.environ["RUNTIME_DIRECTORY"], here=os.path.realpath("."), uid=os.getuid())
        super().serve()
    """
)
POOLED = KNOWS.replace("class Service(Probe)", "class Service(Member)")
UNCHANGED: Mapping[str, str | None] = {}


class Instance:
    """One that only this test knows, since a directory of the host's is called after it."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.name = ground.directory.name
        self.file = ground.directory / f"{self.name}.toml"
        self.run_directory = Path("/run/sdsupervise", self.name)

    def say(self, text: str) -> None:
        self.file.write_text(text)

    def run(self, *options: object, environment: Mapping[str, str | None] = UNCHANGED) -> Running:
        return self.ground.run(SDSUPERVISE, "run", "--config", self.file, *options, environment=environment)

    def reload(self) -> Running:
        running = self.ground.run(SDSUPERVISE, "reload", self.name)
        running.wait()
        return running

    def status(self) -> Mapping[str, object]:
        return status_at(str(self.run_directory / "control"))

    def stop(self) -> None:
        """The one that serves, and all of it."""
        os.kill(int((self.run_directory / f"{self.name}.pid").read_text()), signal.SIGTERM)
        self.ground.expect_nothing_left()


@contextmanager
def instance_on(ground: Ground) -> Iterator[Instance]:
    """One that leaves nothing in /run."""
    instance = Instance(ground)
    yield instance
    if instance.run_directory.exists():
        shutil.rmtree(instance.run_directory)


@pytest.fixture
def instance(ground: Ground) -> Iterator[Instance]:
    with instance_on(ground) as instance:
        yield instance


CLASS = 'directory = "current"\nservice = "service.py:Service"\n'


def test_life_of_an_instance(ground: Ground, instance: Instance) -> None:
    """It is called by its file, and found by that name: by status and reload, without systemd, too. The directory that
    it makes for that is the host's to see, and gone when it is."""
    ground.deploy(1)
    instance.say(CLASS)
    running = instance.run()
    ground.expect("serves", release=1)
    shown = ground.run(SDSUPERVISE, "status", instance.name)
    assert shown.wait() == 0
    assert shown.out.startswith(f"● {instance.name} ")
    running.expect_line(rf"^{instance.name}\[\d+\]: ")
    assert sorted(os.listdir(instance.run_directory)) == ["control", f"{instance.name}.pid"]
    assert stat.S_IMODE(instance.run_directory.stat().st_mode) == 0o755
    ground.deploy(2)
    assert instance.reload().wait() == 0
    ground.expect("serves", release=2)
    assert running.wait() == 0
    assert instance.run_directory.exists()
    instance.stop()
    assert not instance.run_directory.exists()


def test_a_longer_reload_timeout_counts_for_the_import(ground: Ground, instance: Instance) -> None:
    """What the file says is known before the code is loaded, and so are the seconds that this may take."""
    ground.deploy(1)
    instance.say(f"{CLASS}reload_timeout = 100\n")
    running = instance.run()
    ground.expect("serves", release=1)
    os.mkfifo(ground.directory / "go")
    instance.say(f"{CLASS}reload_timeout = 1000\n")
    ground.deploy(2, service(before="open(os.environ['GROUND'] + '/go').read()"))
    client = Client.connect(str(instance.run_directory / "control"), timeout_seconds=LIMIT_SECONDS)
    answers = client.call("Reload", more=True)
    said = next(answer.parameters for answer in answers if answer.parameters.get("at_most", 0) > 1000)
    assert said["message"] == "generation 2 has 1000 s to get ready (reload_timeout)"
    os.close(os.open(ground.directory / "go", os.O_WRONLY))
    rest = [answer.parameters for answer in answers]
    assert rest[-1]["verdict"] == "done"
    assert said["message"] not in [parameters.get("message") for parameters in rest]
    client.close()
    assert running.wait() == 0
    instance.stop()


def test_what_goes_before_what(ground: Ground, instance: Instance) -> None:
    """Options go before the file, and that before the class; of `listen` each name by itself."""
    ground.deploy(1, KNOWS.replace("    probation =", f"    listen = {{'a': '{ground.directory}/a'}}\n    probation ="))
    instance.say(
        f'{CLASS}stop_timeout = 12\nprobation = 0.5\narguments = ["--port", "8", "one"]\n'
        f'listen = {{ b = "{ground.directory}/b", c = {{ address = "@{instance.name}", backlog = 5 }} }}\n'
    )
    instance.run("--stop-timeout", "13", "--listen", f"d={ground.directory}/d", "--", "--port", "9", "two")
    said = ground.expect("knows").details
    assert (said["stop"], said["probation"], said["handover"]) == ("13.0", "0.5", "exclusive")
    assert (said["port"], said["rest"], said["sockets"]) == ("9", "['one', 'two']", "['a', 'b', 'c', 'd']")
    assert said["at"] == str(instance.run_directory)


def test_a_reload_reads_the_file_anew(ground: Ground, instance: Instance) -> None:
    """What was changed there comes into force, and what is there no more has its default again."""
    ground.deploy(1, POOLED)
    instance.say(f'{CLASS}stop_timeout = 12\nprobation = 0\nworkers = 1\nlisten.a = "{ground.directory}/a"\n')
    instance.run()
    said = ground.expect("knows").details
    assert (said["stop"], said["probation"], said["handover"], said["sockets"]) == ("12", "0", "exclusive", "['a']")
    instance.say(f'{CLASS}handover = "overlap"\nworkers = 2\nlisten.b = "{ground.directory}/b"\n')
    assert instance.reload().wait() == 0
    for _ in range(2):
        said = ground.expect("knows").details
        assert (said["stop"], said["probation"], said["handover"], said["sockets"]) == (
            *("11.0", "0.25", "overlap"),
            "['b']",
        )
    status = instance.status()
    pool = {"workers": 2, "serving": 2, "max_workers": 10000, "automatic": False}
    assert (status["handover"], status["pool"]) == ("overlap", pool)
    assert (ground.directory / "b").exists() and not (ground.directory / "a").exists()


WRONG = {
    "no TOML": ("service = current/service.py", r"{file}:1:11: This is not TOML: invalid value"),
    "unknown key": (
        CLASS + "stop_timout = 3\n",
        r"{file}:3:1: There is no key stop_timout; did you mean stop_timeout\?",
    ),
    "two mistakes": (
        CLASS + "workers = 0\nuser = 'nobodyy'\n",
        r"{file}:3:11: workers is 0; .* \(And 1 more mistake in ",
    ),
    "no directory": (CLASS.replace("current", "nowhere"), r"{file}:1:13: There is no directory .*/nowhere\."),
    "not there": (None, r"Cannot read {file}: No such file or directory\."),
    "two services": (CLASS + 'command = ["true"]\n', r"{file}:3:1: Nothing to run: set either service"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_file_changes_nothing(ground: Ground, instance: Instance, case: str) -> None:
    """The reload fails with the file's own sentence as its reason, and whoever served serves on."""
    text, sentence = WRONG[case]
    ground.deploy(1)
    instance.say(CLASS)
    running = instance.run()
    worker = ground.expect("serves", release=1).pid
    if text is None:
        instance.file.unlink()
    else:
        instance.say(text)
    reload = instance.reload()
    assert reload.wait() == 1
    reload.expect_line(r"^NOT RELOADED: " + sentence.format(file=instance.file))
    assert len(re.findall(re.escape(str(instance.file)), reload.err)) == (2 if case == "two mistakes" else 1)
    status = instance.status()
    assert running.alive and [each["pid"] for each in status["workers"]] == [worker]  # type: ignore[attr-defined]
    assert (status["generation"], status["healthy"]) == (1, True)
    instance.say(CLASS)
    assert instance.reload().wait() == 0
    ground.expect("serves", release=1)


def test_the_directory_is_found_anew(ground: Ground, instance: Instance) -> None:
    """Each generation follows the symlink that a deployment swaps, and stays where it came to."""
    ground.deploy(1, KNOWS)
    instance.say(CLASS)
    instance.run()
    assert ground.expect("knows").said("here") == str(ground.directory / "releases/1")
    ground.deploy(2, KNOWS)
    os.kill(ground.expect("serves", release=1).pid, signal.SIGKILL)
    assert ground.expect("knows").said("here") == str(ground.directory / "releases/1")
    assert instance.reload().wait() == 0
    assert ground.expect("knows").said("here") == str(ground.directory / "releases/2")


def test_from_a_class_to_a_command_and_back(ground: Ground, instance: Instance) -> None:
    """A reload may bring a service of another kind: the same promises hold, and it is called as before."""
    ground.deploy(1)
    ground.program("1", "be_the_only_one()\nnotify('READY=1')\nreport('serves', release='program')\nsignal.pause()")
    ground.deploy(1)
    instance.say(CLASS)
    instance.run()
    ground.expect("serves", release=1)
    instance.say('directory = "current"\ncommand = ["./program", "{{x}}"]\n')
    reload = instance.reload()
    assert reload.wait() == 0, reload.err
    ground.expect("serves", release="program")
    assert instance.status()["name"] == instance.name
    instance.say(CLASS)
    assert instance.reload().wait() == 0
    ground.expect("serves", release=1)
    instance.stop()
    assert not instance.run_directory.exists()


def test_an_instance_by_its_file(ground: Ground, instance: Instance) -> None:
    """A path that ends in .toml is taken for what it is, where a NAME is asked for."""
    ground.deploy(1, KNOWS)
    instance.say(CLASS)
    ground.run(SDSUPERVISE, "run", f"./{instance.name}.toml", "--port", "9")
    assert ground.expect("knows").said("port") == "9"
    assert instance.reload().wait() == 0
    checked = ground.run(SDSUPERVISE, "check", instance.file, f"{instance.name}.toml")
    assert checked.wait() == 0
    assert checked.out == f"{instance.name}: ok\n" * 2


def test_a_start_that_fails(ground: Ground, instance: Instance) -> None:
    """It leaves no directory."""
    ground.deploy(1)
    instance.say(f'{CLASS}listen.a = "{instance.file}"\n')
    running = instance.run()
    assert running.wait() == 69
    running.expect_line("a file is there that is not a socket")
    assert not instance.run_directory.exists()


def test_a_command_by_name(ground: Ground, instance: Instance) -> None:
    """Its words are those of the file, with the descriptors of what it listens on, and what follows on the command
    line."""
    ground.program("1", "report('runs', words=sys.argv[1:])\nnotify('READY=1')\nsignal.pause()")
    instance.say(
        f'directory = "current"\ncommand = ["./program", "--fd={{http}}"]\nlisten.http = "{ground.directory}/http"\n'
        'handover = "overlap"\nuser = 0\n'
    )
    running = instance.run("--", "--more")
    assert ground.expect("runs").said("words") == "['--fd=3', '--more']"
    running.expect_line(rf"^{instance.name}\[\d+\]: Worker .* is ready")
    assert os.path.exists(instance.run_directory / "control")
    assert instance.reload().wait() == 0
    ground.expect("runs")
    instance.stop()
    assert not instance.run_directory.exists()


def test_an_instance_elsewhere(ground: Ground, instance: Instance) -> None:
    """Another interpreter's class is called by the file, too."""
    ground.deploy(1, KNOWS)
    instance.say(f'{CLASS}python = "{os.path.realpath(sys.executable)}"\n')
    instance.run()
    assert ground.expect("knows").said("at") == str(instance.run_directory)
    assert instance.status()["name"] == instance.name
    instance.say(f"{CLASS}python = '/no/python'\n")
    reload = instance.reload()
    assert reload.wait() == 1
    reload.expect_line(rf"NOT RELOADED: {instance.file}:3:10: There is no program /no/python\.")


def test_a_second_start_is_a_reload(ground: Ground, instance: Instance) -> None:
    """As for any daemon without systemd; the running one's directory is left alone."""
    ground.deploy(1)
    instance.say(CLASS)
    first = instance.run()
    ground.expect("serves", release=1)
    ground.deploy(2)
    second = instance.run()
    assert second.wait() == 0
    second.expect_line("initiated hot reload")
    ground.expect("serves", release=2)
    assert first.wait() == 0
    assert instance.status()["generation"] == 2


def test_in_the_background(ground: Ground, instance: Instance) -> None:
    """--daemonize takes nothing away that the daemon needs."""
    ground.deploy(1)
    instance.say(CLASS)
    assert instance.run("--daemonize").wait() == 0
    ground.expect("serves", release=1)
    status = instance.status()
    assert (status["name"], status["directory"]) == (instance.name, str(ground.current))
    instance.stop()
    assert not instance.run_directory.exists()


def test_a_directory_that_is_given(ground: Ground, instance: Instance) -> None:
    """Where systemd provides one, none is made, and none taken away."""
    given = ground.directory / "sdsupervise" / "x"
    given.mkdir(parents=True)
    ground.deploy(1)
    instance.say(CLASS)
    running = instance.run(environment={"RUNTIME_DIRECTORY": str(given)})
    ground.expect("serves", release=1)
    assert sorted(os.listdir(given)) == ["control", f"{instance.name}.pid"]
    assert not instance.run_directory.exists()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert os.listdir(given) == [f"{instance.name}.pid"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_an_instance_of_another_user(ground: Ground, instance: Instance) -> None:
    """The directory is the service's own, in each generation, so that it can make there what it likes."""
    shutil.copytree(installed_package(), ground.library / "sdsupervise", ignore=shutil.ignore_patterns("__pycache__"))
    ground.deploy(1, KNOWS)
    instance.say(f'{CLASS}user = "nobody"\n')
    nobody = pwd.getpwnam("nobody")
    running = ground.run("/usr/bin/python3", "-m", "sdsupervise", "run", "--config", instance.file)
    assert ground.expect("knows").said("uid") == str(nobody.pw_uid)
    found = instance.run_directory.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (nobody.pw_uid, nobody.pw_gid, 0o755)
    assert instance.reload().wait() == 0
    assert ground.expect("knows").said("uid") == str(nobody.pw_uid)
    assert running.wait() == 0
    instance.stop()
    assert not instance.run_directory.exists() or os.listdir(instance.run_directory) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_an_instance_of_a_user_s_own(ground: Ground) -> None:
    """Who is not root has a place for files, and one to run in, of their own; NAME is looked for there first."""
    shutil.copytree(installed_package(), ground.library / "sdsupervise", ignore=shutil.ignore_patterns("__pycache__"))
    nobody = pwd.getpwnam("nobody")
    own = ground.directory / "own"
    own.mkdir()
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    environment = {"XDG_CONFIG_HOME": str(ground.directory / "config"), "XDG_RUNTIME_DIR": str(own)}
    ground.deploy(1, KNOWS)
    ground.write("config/sdsupervise/mine.toml", f'directory = "{ground.current}"\nservice = "service.py:Service"\n')
    words = ("/usr/bin/python3", "-m", "sdsupervise")
    running = ground.run(*words, "run", "mine", environment=environment, user="nobody", extra_groups=[])
    assert ground.expect("knows").said("at") == f"{own}/sdsupervise/mine"
    reload = ground.run(*words, "reload", "mine", environment=environment, user="nobody", extra_groups=[])
    assert reload.wait() == 0
    ground.expect("knows")
    assert running.wait() == 0
    os.kill(int((own / "sdsupervise/mine/mine.pid").read_text()), signal.SIGTERM)
    ground.expect_nothing_left()
    assert os.listdir(own / "sdsupervise") == []


def test_a_daemon_without_a_supervisor(ground: Ground, instance: Instance) -> None:
    """It has a name, too, and a directory."""
    text = (
        "def daemon_run(self): report('runs', at=self.pid_file); wait_for_signal()\ndef handle_shutdown(self): return 3"
    )
    ground.deploy(1, service(text, base="Daemon"))
    instance.say(CLASS)
    running = instance.run()
    assert ground.expect("runs").said("at") == str(instance.run_directory / f"{instance.name}.pid")
    running.signal(signal.SIGTERM)
    assert running.wait() == 3
    instance.say(CLASS + "workers = 2\n")
    running = instance.run()
    assert running.wait() == 64
    running.expect_line("Service is not supervised; leave out --workers")


NOTHING = {
    ("nosuch_",): (78, r"neither an instance nosuch_ \(no /\S+/nosuch_.toml\) nor a module nosuch_ \(in "),
    ("nosuch-",): (78, r"neither an instance nosuch- .* nor a module"),
    ("json",): (78, r"json defines: none\. Nor is it an instance: there is no /\S+/json\.toml"),
    ("json.nosuch",): (78, r"No module named 'json.nosuch'.* Nor is it an instance"),
    ("../x",): (78, r"Cannot load ../x: there is no such file"),
    ("a b",): (64, r"Neither an instance nor a module can be called 'a b'"),
    ("@",): (64, r"can be called '@': a name has"),
    ("%i",): (64, r"can be called '%i': a name has"),
    ("-.x",): (64, r"unrecognized arguments|no such option|arguments"),
    ("x" * 65 + "-",): (64, r"a name has up to 64"),
    ("--config", "a b.toml"): (64, r"a b.toml: an instance cannot be called 'a b'; a name has"),
    ("--config", ".toml"): (64, r"cannot be called ''"),
    ("--config", "nosuch.toml"): (78, r"Cannot read nosuch.toml: No such file or directory"),
    ("--config", "lib"): (78, r"Cannot read lib: it is not a regular file"),
    ("--config", "fifo.toml"): (78, r"Cannot read fifo.toml: it is not a regular file"),
    ("--config", "x.toml", "y"): (
        64,
        r"--config already names what to run; write the service's own arguments after "
        "'--'",
    ),
    ("--name", "y", "--config", "x.toml"): (64, r"--name is for a COMMAND; an instance has the name of its file"),
}


@pytest.mark.parametrize("words", NOTHING, ids=" ".join)
def test_what_cannot_be_run(ground: Ground, words: tuple[str, ...]) -> None:
    """One sentence says what is not there, and where it was looked for."""
    os.mkfifo(ground.directory / "fifo.toml")
    ground.write("x.toml", 'service = "x.py:X"\n')
    running = ground.run(SDSUPERVISE, "run", *words)
    status, sentence = NOTHING[words]
    assert running.wait() == status
    running.expect_line(sentence)


HANGS = """
import os, signal
from sdsupervise.instances import instance_file, instance_reader
def read(*_, **__):
    print(os.getpid(), flush=True)
    signal.pause()
instance_file.read = read
instance_reader.read_apart("x.toml")
"""


def test_whoever_reads_the_file_dies_with_its_supervisor(ground: Ground) -> None:
    """A file is read in a process of its own. If that hangs, and the supervisor that waits for it is killed, as a new
    one is that takes too long, it is not left."""
    running = ground.run(sys.executable, "-c", HANGS)
    reader = int(running.expect_line(r"\d+", "out"))
    running.signal(signal.SIGKILL)
    wait_gone(reader)


def test_an_end_by_force(ground: Ground, instance: Instance) -> None:
    """What a killed supervisor leaves is used by the next one."""
    ground.deploy(1)
    instance.say(CLASS)
    running = instance.run()
    worker = ground.expect("serves", release=1).pid
    running.signal(signal.SIGKILL)
    wait_gone(worker)
    instance.run()
    ground.expect("serves", release=1)
    assert instance.status()["generation"] == 1
    instance.stop()
    assert not instance.run_directory.exists()
