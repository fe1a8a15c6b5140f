"""--user and --group: who the service becomes, and that it keeps all its promises as that."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import stat
from pathlib import Path

import pytest

from tests.service.harness import Ground, installed_package, service
from tests.service.running import Running, wait_gone

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

USER = "nobody"
IDS = service(
    """
    def serve(self):
        report("ids", uids=os.getresuid(), gids=os.getresgid(), groups=sorted(os.getgroups()))
        super().serve()
    """
)


@pytest.fixture
def ground_of_all(ground: Ground) -> Ground:
    """A ground whose product and interpreter any user can read: a successor is executed as that user."""
    shutil.copytree(installed_package(), ground.library / "sdsupervise", ignore=shutil.ignore_patterns("__pycache__"))
    return ground


def start(ground: Ground, *options: str) -> Running:
    script = "current/service.py"
    return ground.run("/usr/bin/python3", script, "--no-fork", "--pid-file", ground.pid_file, *options)


def supplementary(user: str, group: int) -> list[int]:
    return sorted({group, *os.getgrouplist(user, group)})


def triple(number: int) -> str:
    return str((number, number, number))


@pytest.mark.parametrize("way", ["option", "attribute", "number"])
def test_user(ground_of_all: Ground, way: str) -> None:
    """Root becomes the user: all three ids, its group, its supplementary groups and no others; the pid file is its
    own; also in the next generation."""
    ground = ground_of_all
    entry = pwd.getpwnam(USER)
    text = IDS.replace("    release =", f"    user = '{USER}'\n    release =") if way == "attribute" else IDS
    ground.deploy(1, text)
    start(ground, *{"option": ["--user", USER], "attribute": [], "number": ["--user", str(entry.pw_uid)]}[way])
    ground.expect("serves")
    expected = {
        "uids": triple(entry.pw_uid),
        "gids": triple(entry.pw_gid),
        "groups": str(supplementary(USER, entry.pw_gid)),
    }
    assert ground.expect("ids").details == expected
    assert ground.pid_file.stat().st_uid == entry.pw_uid and ground.pid_file.stat().st_gid == entry.pw_gid
    for release in 2, 3:
        ground.deploy(release, text)
        done = ground.reload()
        assert done.returncode == 0, done
        assert ground.expect("ids").details == expected
        ground.expect("serves", release=release)
        assert int(ground.pid_file.read_text()) == ground.status()["pid"]


def test_groups_of_root_are_dropped(ground_of_all: Ground) -> None:
    """The caller's supplementary groups do not stay, which the original forgot (hazard 8); with --group alone, too."""
    ground = ground_of_all
    ground.deploy(1, IDS)
    others = [4, 24, 27]
    command = ["/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", ground.pid_file]
    running = ground.run(*command, "--user", USER, extra_groups=others)
    said = ground.expect("ids").details
    assert said["groups"] == str(supplementary(USER, pwd.getpwnam(USER).pw_gid))
    running.signal(signal.SIGTERM)
    running.wait()
    ground.run(*command, "--group", "daemon", extra_groups=others)
    said = ground.expect("ids").details
    daemon = grp.getgrnam("daemon").gr_gid
    assert said == {"uids": triple(0), "gids": triple(daemon), "groups": "[]"}


def test_user_and_group(ground_of_all: Ground) -> None:
    """--group goes before the user's own group."""
    ground = ground_of_all
    ground.deploy(1, IDS)
    start(ground, "--user", USER, "--group", "daemon")
    daemon = grp.getgrnam("daemon").gr_gid
    said = ground.expect("ids").details
    assert (said["gids"], said["groups"]) == (triple(daemon), str(supplementary(USER, daemon)))
    assert ground.pid_file.stat().st_gid == daemon


@pytest.mark.parametrize(("option", "kind"), [("--user", "user"), ("--group", "group")])
@pytest.mark.parametrize("name", ["nobody-has-this-name", "4294967294000", ""])
def test_unknown_name(ground_of_all: Ground, option: str, kind: str, name: str) -> None:
    """A name or number nobody has is one sentence and exit status 78; nothing was touched."""
    ground = ground_of_all
    ground.deploy(1)
    running = start(ground, option, name)
    assert running.wait() == 78
    assert running.err == f"There is no {kind} {name!r} on this host; check {option}.\n"
    assert not ground.pid_file.exists()


def test_not_root(ground_of_all: Ground) -> None:
    """Without root it is a warning, and the service runs as who it is, through reloads."""
    ground = ground_of_all
    ground.directory.chmod(0o777)
    ground.deploy(1, IDS)
    command = ["/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", ground.pid_file, "--user", "daemon"]
    running = ground.run(*command, user=61234, group=61234, extra_groups=[])
    assert ground.expect("ids").details["uids"] == triple(61234)
    running.expect_line("Only root can run as another user or group; staying uid 61234, gid 61234")
    ground.deploy(2, IDS)
    assert ground.reload().returncode == 0
    assert ground.expect("ids").details["uids"] == triple(61234)


def test_orphan_without_privileges(ground_of_all: Ground) -> None:
    """A worker under --user, too, learns at once that its supervisor was killed, though it never pings: the privilege
    drop erases what the kernel was asked for before it."""
    ground = ground_of_all
    ground.deploy(1)
    running = start(ground, "--user", USER)
    worker = ground.expect("serves").pid
    running.signal(signal.SIGKILL)
    assert ground.expect("shutdown").pid == worker
    wait_gone(worker)
    ground.expect_nothing_left()


def test_no_pid_file_without_privileges(ground_of_all: Ground) -> None:
    """--no-pid-file under --user: the nameless lock, made by root, is handed on among the unprivileged."""
    ground = ground_of_all
    ground.deploy(1)
    running = ground.run("/usr/bin/python3", "current/service.py", "--no-fork", "--no-pid-file", "--user", USER)
    ground.expect("serves")
    ground.deploy(2)
    running.signal(signal.SIGUSR2)
    ground.expect("serves", release=2)
    assert running.wait() == 0


def test_stop_leaves_no_trouble(ground_of_all: Ground) -> None:
    """What an unprivileged service cannot remove from root's directory does not hinder its next start, by root."""
    ground = ground_of_all
    ground.deploy(1)
    for _ in range(2):
        running = start(ground, "--user", USER)
        ground.expect("serves")
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    assert Path(ground.control).exists()


def test_files_of_sockets(ground_of_all: Ground) -> None:
    """The file of a UNIX socket that root has made is the user's, so that the unprivileged supervisors after the first
    can change its mode, and remove it at the end."""
    ground, entry = ground_of_all, pwd.getpwnam(USER)
    place = ground.directory / "run"
    place.mkdir()
    os.chown(place, entry.pw_uid, entry.pw_gid)
    path = place / "app.sock"
    listen = {"app": {"address": str(path), "mode": 0o640}}
    ground.deploy(1, service(f"listen = {listen!r}"))
    running = start(ground, "--user", USER)
    ground.expect("serves")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (entry.pw_uid, entry.pw_gid, 0o640)
    listen["app"]["mode"] = 0o600
    ground.deploy(2, service(f"listen = {listen!r}"))
    running.signal(signal.SIGUSR2)
    assert running.wait() == 0
    assert ground.status()["generation"] == 2
    assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (found.st_ino, 0o600)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()
    assert not path.exists()


@pytest.mark.parametrize("way", ["owner", "directory"])
def test_sockets_that_only_root_may_open(ground_of_all: Ground, way: str) -> None:
    """Without root an owner that is not ours to give, and a directory that is not ours to write, are one sentence;
    exit status 77, and nothing is left."""
    ground = ground_of_all
    (ground.directory / "ours").mkdir(mode=0o777)
    (ground.directory / "ours").chmod(0o777)
    place = ground.directory / ("ours" if way == "owner" else "lib") / "app.sock"
    listen = {"app": {"address": str(place), "user": "daemon"}}
    ground.deploy(1, service(f"listen = {listen!r}"))
    pid_file = ground.directory / "ours/service.pid"
    command = ["/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", pid_file]
    running = ground.run(*command, user=61234, group=61234, extra_groups=[])
    assert running.wait() == 77
    why = "we may not; choose a directory, owner and mode that are ours to give."
    assert running.err == f"Cannot listen on {place} (listen 'app'): {why}\n"
    assert [found.name for found in (ground.directory / "ours").iterdir()] == ["service.pid"]


def test_daemon_drops_privileges(ground_of_all: Ground) -> None:
    """So does a plain Daemon, in the background too."""
    ground = ground_of_all
    ground.deploy(
        1,
        service(
            "def daemon_run(self): report('ids', uids=os.getresuid()); wait_for_signal()\n"
            "def handle_shutdown(self): pass",
            base="Daemon",
        ),
    )
    caller = ground.run("/usr/bin/python3", "current/service.py", "--pid-file", ground.pid_file, "--user", USER)
    assert caller.wait() == 0
    assert ground.expect("ids").details["uids"] == triple(pwd.getpwnam(USER).pw_uid)


def test_notify_command(ground_of_all: Ground) -> None:
    """What is run to tell people runs as the service's user, with its groups and no others."""
    ground, entry = ground_of_all, pwd.getpwnam(USER)
    told = "from told import *; import os; report('told', uids=os.getresuid(), gids=os.getresgid())"
    ground.deploy(1, service(f'notify_command = ["/usr/bin/python3", "-c", {told!r}]'))
    running = start(ground, "--user", USER)
    ground.expect("serves")
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    ground.expect("told", uids=triple(entry.pw_uid), gids=triple(entry.pw_gid))
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
