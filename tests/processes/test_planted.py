"""Root writes where somebody else may write, too, and that one plants symlinks, FIFOs, files and directories there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from sdsupervise.cli import metrics
from sdsupervise.control import server
from sdsupervise.errors import ConfigError, ControlSocketError, ListenError, PidFileError, SdsuperviseError
from sdsupervise.linux import files
from sdsupervise.linux.pid_file import PidFile
from sdsupervise.settings.listen import Listen
from sdsupervise.sockets.opening import WantedListener
from tests.support.harness import PYTHON, SDSUPERVISE, Ground, installed_package, service
from tests.support.running import Running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose")

ATTACKER = 65534
ROUNDS = 1500
# As fast as it can: the directory is a symlink to root's, and itself again; and what is in it is replaced.
ATTACK = """
import os, sys
outer, victims = sys.argv[1:]
os.chdir(outer)
os.symlink(victims, "link")
os.symlink(victims + "/canary", "file")
def attempt(do, *what):
    try:
        do(*what)
    except OSError:
        pass
print("ready", flush=True)
while True:
    attempt(os.rename, "place", "away")
    attempt(os.rename, "link", "place")
    attempt(os.rename, "place", "link")
    attempt(os.rename, "away", "place")
    for name in os.listdir("place"):
        attempt(os.rename, "place/" + name, "gone")
        attempt(os.rename, "file", "place/" + name)
        attempt(os.rename, "gone", "taken")
        attempt(os.mkfifo, "place/" + name)
        attempt(os.symlink, victims + "/canary", "file")
"""


class Scene:
    """What root owns (`victims`), and a directory of the attacker's (`place`) in another of the attacker's."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.victims = ground.directory / "victims"
        self.victims.mkdir()
        self.canary = self.victims / "canary"
        self.canary.write_text("root's")
        self.canary.chmod(0o640)
        self.outer = ground.directory / "outer"
        self.place = self.outer / "place"
        for directory in (self.outer, self.place):
            directory.mkdir()
            os.chown(directory, ATTACKER, ATTACKER)
        self._before = self._look()

    def link(self, path: Path, target: Path) -> None:
        """The attacker makes a symlink."""
        path.symlink_to(target)
        os.chown(path, ATTACKER, ATTACKER, follow_symlinks=False)

    def attack(self) -> Running:
        """Begin to do everything at once, over and over."""
        words = (PYTHON, "-c", ATTACK, self.outer, self.victims)
        attacker = self.ground.run(*words, user=ATTACKER, group=ATTACKER, extra_groups=[])
        attacker.expect_line("ready", "out")
        return attacker

    def nothing_happened(self) -> None:
        """To what is root's."""
        assert self._look() == self._before

    def _look(self) -> dict[str, object]:
        found = {path.name: path.lstat() for path in self.victims.iterdir()}
        facts: dict[str, object] = {
            name: (each.st_mode, each.st_uid, each.st_gid, each.st_ino) for name, each in found.items()
        }
        return {**facts, "text": self.canary.read_text()}


@pytest.fixture
def scene(ground: Ground) -> Scene:
    return Scene(ground)


def write_metrics(ground: Ground, path: Path, *, begin: str = "") -> subprocess.CompletedProcess[str]:
    """`sdsupervise metrics --output PATH`, whose pid a shell knows beforehand."""
    words = (SDSUPERVISE, "metrics", "--pid-file", str(ground.pid_file), "--output", str(path))
    return ground.finish(ground.run("sh", "-c", f'{begin}\nexec "$@"', "sh", *words))


# ------------------------------------------------------------------------------------------------ metrics --output


def test_metrics_in_a_directory_of_others(ground: Ground, scene: Scene) -> None:
    """No name that can be guessed is opened, and a symlink that has the file's own name is replaced."""
    path = scene.place / "x.prom"
    scene.link(path, scene.canary)
    done = write_metrics(ground, path, begin=f'ln -s {scene.canary} "{path}.$$.new"')
    assert done.returncode == 0, done
    scene.nothing_happened()
    assert path.is_file() and not path.is_symlink() and "sdsupervise_up" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_metrics_behind_a_symlink_of_others(ground: Ground, scene: Scene) -> None:
    """Root does not write where somebody else's symlink leads."""
    scene.link(scene.outer / "link", scene.victims)
    done = write_metrics(ground, scene.outer / "link" / "x.prom")
    assert done.returncode == 78
    assert f"uid {ATTACKER} has made a symlink on the way" in done.stderr
    scene.nothing_happened()


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_metrics_over_what_is_no_file(ground: Ground, scene: Scene, kind: str) -> None:
    """Root's /dev/null stays what it is."""
    path = scene.victims / kind
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        os.mknod(path, 0o666 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFCHR), os.makedev(1, 3))
    mode = path.stat().st_mode
    done = write_metrics(ground, path)
    assert done.returncode == 78
    assert "not a regular file" in done.stderr
    assert path.stat().st_mode == mode
    assert sorted(os.listdir(scene.victims)) == sorted(["canary", kind])


def test_metrics_while_everything_is_replaced(scene: Scene) -> None:
    """Whatever the directory's owner does at whatever moment: only files of that one are written."""
    scene.attack()
    done = 0
    for _ in range(ROUNDS):
        try:
            metrics._replace(str(scene.place / "x.prom"), b"metrics")
        except ConfigError:
            continue
        done += 1
    assert done > 0
    scene.nothing_happened()


# ------------------------------------------------------------------------------------------------------- pid file


def test_pid_file_behind_a_symlink_of_others(scene: Scene) -> None:
    """Nothing is made, and given to --user, where somebody else's symlink leads."""
    scene.link(scene.outer / "link", scene.victims)
    with pytest.raises(PidFileError, match="has made a symlink on the way"):
        PidFile.at(str(scene.outer / "link" / "x.pid"))
    scene.nothing_happened()


def test_pid_file_while_everything_is_replaced(scene: Scene) -> None:
    """At whatever moment."""
    scene.attack()
    for _ in range(ROUNDS):
        try:
            pid_file = PidFile.at(str(scene.place / "x.pid"))
        except SdsuperviseError:
            continue
        with contextlib.closing(pid_file), contextlib.suppress(SdsuperviseError):
            pid_file.give_to(ATTACKER, ATTACKER)
            pid_file.write_pid(1)
    scene.nothing_happened()


# -------------------------------------------------------------------------------------------------------- sockets


def wanted(path: Path) -> WantedListener:
    return WantedListener.of(Listen("x", str(path)), ATTACKER, ATTACKER)


def test_listeners_behind_a_symlink_of_others(scene: Scene) -> None:
    """No socket is made, none removed and none given away where somebody else's symlink leads."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(scene.victims / "stale"))
    before = os.lstat(scene.victims / "stale").st_ino
    scene.link(scene.outer / "link", scene.victims)
    for name in ("stale", "fresh"):
        with pytest.raises(ListenError, match="has made a symlink on the way"):
            wanted(scene.outer / "link" / name).open()
        with pytest.raises(ControlSocketError, match="has made a symlink on the way"):
            server.bind(str(scene.outer / "link" / name))
    assert os.lstat(scene.victims / "stale").st_ino == before
    assert not (scene.victims / "fresh").exists()


def test_listeners_while_everything_is_replaced(scene: Scene) -> None:
    """What becomes the service's is the socket that was made, and nothing else. (One may be made elsewhere, by a
    symlink that comes at the wrong moment; it is root's, and overwrites nothing.)"""
    scene.attack()
    for _ in range(ROUNDS):
        try:
            listener, file = wanted(scene.place / "x.sock").open()
        except SdsuperviseError:
            continue
        listener.close()
        assert file is not None
        file.unlink()
    assert scene.canary.read_text() == "root's"
    for path in scene.victims.iterdir():
        found = path.lstat()
        assert found.st_uid == 0 or stat.S_ISSOCK(found.st_mode), path


def test_a_stop_removes_what_is_its_own(ground: Ground, scene: Scene) -> None:
    """Where somebody has put another directory in the place of its own, what has its control socket's name stays."""
    (scene.victims / "x.control").write_text("another's")
    ground.deploy(1)
    running = ground.run(PYTHON, "current/service.py", "--no-fork", "--pid-file", scene.place / "x.pid")
    ground.expect("serves")
    scene.place.rename(scene.outer / "away")
    scene.link(scene.place, scene.victims)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert (scene.victims / "x.control").exists()


# -------------------------------------------------------------------------------------------------- NOTIFY_SOCKET


@pytest.fixture
def runtime(ground: Ground) -> Path:
    """A service's runtime directory."""
    path = ground.directory / "runtime"
    path.mkdir()
    return path


def start_command(ground: Ground, **environment: str) -> str:
    """A command; where its NOTIFY_SOCKET is."""
    text = 'notify("READY=1")\nreport("serves", notify=os.environ["NOTIFY_SOCKET"])\nwait()\n'
    ground.program(1, text)
    ground.run_command(ground.current / "program", environment=environment)
    return ground.expect("serves").said("notify")


def test_directories_left_behind_that_are_none(ground: Ground, scene: Scene, runtime: Path) -> None:
    """What others have made under the name of what a killed supervisor leaves is not followed, and not in the way."""
    dead = ground.run("true")
    assert dead.wait() == 0
    runtime.chmod(0o1777)
    scene.link(runtime / f"notify.{dead.pid}.0123abcd", scene.victims)
    for name in ("notify.", "notify.x", "notify.²", f"notify.{10**30}.0123abcd", f"notify.{dead.pid}"):
        (runtime / name).mkdir()
    (runtime / f"notify.{dead.pid}.01230000").touch()
    ours = runtime / f"notify.{dead.pid}.01234567"
    ours.mkdir(mode=0o700)
    (ours / "1").touch()
    assert start_command(ground, RUNTIME_DIRECTORY=str(runtime)).startswith(str(runtime))
    scene.nothing_happened()
    assert not ours.exists()


@pytest.mark.parametrize(
    ("variable", "whose"),
    [
        *(("RUNTIME_DIRECTORY", whose) for whose in ("others'", "writable")),
        *(("TMPDIR", whose) for whose in ("others'", "writable", "behind a link")),
    ],
)
def test_sockets_only_where_nobody_can_replace_them(
    ground: Ground, scene: Scene, runtime: Path, variable: str, whose: str
) -> None:
    """Whoever owns a directory could put another one in the place of ours, with a socket that is believed."""
    if whose == "others'":
        place = scene.place / "deeper"
        place.mkdir()
    elif whose == "writable":
        place = runtime
        place.chmod(0o777)
    else:
        place = scene.outer / "link"
        scene.link(place, scene.victims)
    path = start_command(ground, **{variable: str(place)})
    assert not path.startswith((str(place), str(scene.victims)))
    assert stat.S_IMODE(os.stat(Path(path).parent).st_mode) == 0o711
    scene.nothing_happened()


# -------------------------------------------------------------------------------------------------- run directory


def test_no_variable_says_what_is_given_away(ground: Ground, scene: Scene) -> None:
    """A directory that root has not made for the service is not the service's, whatever the environment says."""
    ground.deploy(1)
    before = os.stat(scene.victims).st_uid
    ground.start("--user", str(ATTACKER), environment={"SDSUPERVISE_RUN_DIRECTORY": str(scene.victims)})
    ground.expect("warm")
    assert os.stat(scene.victims).st_uid == before


@pytest.mark.parametrize("kind", ["another user's", "symlink", "file"])
def test_run_directories_that_are_there(ground: Ground, scene: Scene, kind: str) -> None:
    """What is there, and neither root's nor the service's, is not made the service's."""
    name = ground.directory.name
    path = Path("/run/sdsupervise", name)
    path.parent.mkdir(exist_ok=True)
    if kind == "symlink":
        path.symlink_to(scene.victims)
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        os.chown(path, 12345, 12345)
    before = path.lstat()
    file = ground.write(f"{name}.toml", f'directory = "{ground.directory}/current"\nservice = "service.py"\n')
    ground.deploy(1, service(f'user = "{ATTACKER}"'))
    try:
        running = ground.run(SDSUPERVISE, "run", "--config", file)
        assert running.wait() == 77
        assert f"Cannot make {path}, where the instance would run: " in running.err
        after = path.lstat()
        assert (after.st_uid, after.st_mode, after.st_ino) == (before.st_uid, before.st_mode, before.st_ino)
        scene.nothing_happened()
    finally:
        path.rmdir() if kind == "another user's" else path.unlink()


# --------------------------------------------------------------------------------------------------------- walking


def test_ways_to_a_directory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's symlinks are followed as the kernel does, whatever they say; loops and files are no way."""
    monkeypatch.chdir(scene.ground.directory)
    top = scene.ground.directory
    (top / "down").mkdir()
    (top / "relative").symlink_to("down")
    (top / "absolute").symlink_to(top / "relative")
    (top / "loop").symlink_to("loop")
    for path in ("", ".", "down", "down/", "./down//", "relative/../absolute", f"{top}/absolute/.", "/", "/../run"):
        directory = files.open_directory(path)
        assert os.path.samestat(os.fstat(directory), os.stat(path or ".")), path
        os.close(directory)
    for path, error in (("loop", "Too many levels"), ("nothing/x", "No such file"), ("victims/canary", "Not a dir")):
        with pytest.raises(OSError, match=error):
            files.open_directory(path)
    with pytest.raises(OSError, match="Not a dir"):
        files.open_directory("victims/canary/x")


def test_reading_what_is_no_file(scene: Scene) -> None:
    """A FIFO makes nobody wait, and a symlink leads nowhere."""
    os.mkfifo(scene.place / "fifo")
    scene.link(scene.place / "link", scene.canary)
    directory = files.open_directory(str(scene.place))
    for name, error in (("fifo", "not a regular file"), ("link", "Too many levels"), ("none", "No such file")):
        with pytest.raises(OSError, match=error):
            files.read(directory, name, at_most=10)
    os.close(directory)
    directory = files.open_directory(str(scene.victims))
    assert files.read(directory, "canary", at_most=4) == b"root"
    os.close(directory)


@pytest.mark.parametrize("mapped", ["root", "current"])
def test_in_a_namespace_that_does_not_map_root(ground: Ground, scene: Scene, mapped: str) -> None:
    """What root owns seems to be nobody's there, and is taken for root's all the same."""
    own = ground.directory / "own"
    own.mkdir(mode=0o755)
    os.chown(own, 12345, 12345)
    (ground.directory / "roots-link").symlink_to("own")
    code = (
        "import os\nfrom sdsupervise.linux import files\n"
        f"here = files.open_directory({str(ground.directory / 'roots-link')!r}, only_ours=True)\n"
        "files.replace(here, 'x', b'x', 0o644, durable=True)\n"
    )
    shutil.copytree(installed_package(), ground.library / "sdsupervise", ignore=shutil.ignore_patterns("__pycache__"))
    unshare = ("unshare", "--user", f"--map-{mapped}-user", "/usr/bin/python3", "-c", code)
    running = ground.run("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", *unshare)
    assert running.wait() == 0, running.err
    assert (own / "x").read_text() == "x"
