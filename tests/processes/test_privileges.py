"""--user and --group: who the service becomes, and that it keeps all its promises as that."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import shutil
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest

from tests.processes.test_given_sockets import ACTIVATE
from tests.processes.test_sockets import HANDOVERS, ask, echo, host, port
from tests.support.harness import PYTHON, Ground, installed_package, service
from tests.support.running import Running, wait_gone
from tests.support.terminal import Terminal

__all__ = ["host", "port"]  # fixtures

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
    """The caller's supplementary groups do not stay, which the original forgot; with --group alone, too."""
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
    why = (
        "there is no permission; choose a directory that the service may write, and an owner and mode that it may set."
    )
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


def test_before_commit(ground_of_all: Ground) -> None:
    """So does the check of new code, though root may have started the reload."""
    ground, entry = ground_of_all, pwd.getpwnam(USER)
    told = "from told import *; import os; report('checks', uids=os.getresuid(), groups=sorted(os.getgroups()))"
    ground.deploy(1)
    running = start(ground, "--user", USER)
    ground.expect("serves")
    ground.deploy(2, service(f'before_commit = ["/usr/bin/python3", "-c", {told!r}]'))
    assert ground.reload().returncode == 0
    ground.expect("checks", uids=triple(entry.pw_uid), groups=str(supplementary(USER, entry.pw_gid)))
    assert running.wait() == 0


WHO = service(
    """
    def serve(self):
        names = ("HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_RUNTIME_DIR", "MAIL", "COLOUR")
        report("who", **{name: os.environ.get(name) for name in names})
        super().serve()
    """
)
OF_ROOT = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh", "TMPDIR": "/tmp/user/0"}


@pytest.mark.parametrize("user", ["daemon", "sync"])
def test_environment_of_a_login(ground_of_all: Ground, user: str) -> None:
    """The service finds HOME, USER, LOGNAME and SHELL of its user, who may have no shell, and nothing that only root's
    session has; so does the next generation, which an unprivileged supervisor starts. That systemd sets the same shows
    tests/machines/test_login.py."""
    ground, entry = ground_of_all, pwd.getpwnam(user)
    ground.deploy(1, WHO)
    command = ["/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", ground.pid_file, "--user", user]
    session = {**OF_ROOT, "XDG_RUNTIME_DIR": "/run/user/0", "MAIL": "/var/mail/root", "COLOUR": "red"}
    running = ground.run(*command, environment=session)
    expected = {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": entry.pw_shell, "COLOUR": "red"}
    no_shell = ["SHELL"] if entry.pw_shell.endswith(("nologin", "false")) else []
    expected |= dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR", "MAIL", *no_shell), "None")
    assert ground.expect("who").details == expected
    ground.deploy(2, WHO)
    running.signal(signal.SIGUSR2)
    assert ground.expect("who").details == expected
    assert running.wait() == 0


def test_pid_file_is_its_owners_alone(ground_of_all: Ground) -> None:
    """flock(2) asks for no right to write: whoever could read the pid file could take the lock while one generation
    hands it to the next, and nobody would serve. So nobody else can open it, also one that was there before."""
    ground = ground_of_all
    ground.pid_file.touch(0o644)
    ground.pid_file.chmod(0o644)
    ground.deploy(1)
    start(ground, "--user", USER)
    ground.expect("serves")
    assert stat.S_IMODE(ground.pid_file.stat().st_mode) == 0o600
    lock = [
        "/usr/bin/python3",
        "-c",
        "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)",
    ]
    stranger = ground.run(*lock, ground.pid_file, user=61234, group=61234, extra_groups=[])
    assert stranger.wait() == 1 and "PermissionError" in stranger.err
    assert ground.reload().returncode == 0


def test_pid_file_of_somebody_else(ground_of_all: Ground) -> None:
    """A second start as root does not signal whom the pid file of another user names, unless it is that user's."""
    ground, stranger = ground_of_all, 61234
    ground.deploy(1)
    victim = ground.run("/bin/sh", "-c", "trap 'echo signalled >&2' USR2; while sleep 0.1; do :; done", "service.py")
    place = ground.directory / "theirs"
    place.mkdir()
    os.chown(place, stranger, stranger)
    pid_file = place / "service.pid"
    pid_file.write_text(f"{victim.pid}\n")
    os.chown(pid_file, stranger, stranger)
    with pid_file.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = ground.run("/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", pid_file)
        assert second.wait() == 69
    assert f"{pid_file} belongs to uid {stranger} and names pid {victim.pid}, which is not a process of" in second.err
    victim.signal(signal.SIGKILL)
    victim.wait()
    assert "signalled" not in victim.err


def test_control_socket_of_somebody_else(ground_of_all: Ground) -> None:
    """Nor does it believe whoever listens beside such a file: it does not start, and says who that is."""
    ground, stranger = ground_of_all, 61234
    ground.deploy(1)
    place = ground.directory / "theirs"
    place.mkdir()
    os.chown(place, stranger, stranger)
    listen = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
    listen += "print('listens', file=sys.stderr, flush=True); time.sleep(1000)"
    fake = ground.run("/usr/bin/python3", "-c", listen, place / "service.control", user=stranger, extra_groups=[])
    fake.expect_line("listens")
    second = ground.run("/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", place / "service.pid")
    assert second.wait() == 69
    assert second.err.startswith(f"Uid {stranger} listens on {place}/service.control and is not a user of this service")


TERMINAL = service(
    """
    def serve(self):
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
            terminal = "a terminal"
        except OSError as error:
            terminal = error.strerror
        readable = [fd for fd in range(3) if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY]
        report("terminal", controlling=terminal, stdin=os.path.realpath("/proc/self/fd/0"), readable=readable)
        super().serve()
    """,
    before="import fcntl",
)


def test_no_terminal_of_root(ground_of_all: Ground) -> None:
    """In the foreground of root's terminal a service of another user has no controlling terminal, into which it could
    type, and reads nothing from it. What it writes is there, Ctrl-C stops it, and the exit status is its own."""
    ground = ground_of_all
    ground.deploy(1, TERMINAL)
    command = ["/usr/bin/python3", str(ground.current / "service.py"), "--no-fork", "--user", USER]
    shown = Terminal([*command, "--pid-file", str(ground.pid_file)], ground.environment({"TERM": "vt100"}))
    try:
        said = ground.expect("terminal").details
        assert said == {"controlling": "No such device or address", "stdin": "/dev/null", "readable": "[0]"}
        ground.expect("serves")
        shown.wait_for_written("Generation 1 serves")
        shown.press("\x03")
        ground.expect("shutdown")
        assert shown.wait() == 0
        ground.expect_nothing_left()
    finally:
        shown.close()


def test_killed_in_the_terminal(ground_of_all: Ground) -> None:
    """Whoever kills the process that was called in the terminal stops the service."""
    ground = ground_of_all
    ground.deploy(1)
    command = ["/usr/bin/python3", str(ground.current / "service.py"), "--no-fork", "--user", USER]
    shown = Terminal([*command, "--pid-file", str(ground.pid_file)], ground.environment({"TERM": "vt100"}))
    try:
        ground.expect("serves")
        keeper = psutil.Process(int(ground.pid_file.read_text())).parent()
        assert keeper is not None
        keeper.kill()
        ground.expect("shutdown")
        ground.expect_nothing_left()
    finally:
        shown.close()


@pytest.mark.parametrize("others", [False, True], ids=["root's code", "others' code"])
def test_only_the_class_names_its_user(ground_of_all: Ground, others: bool) -> None:
    """Then root has loaded its code; a warning says so, what to do, and who may write that code."""
    ground = ground_of_all
    ground.deploy(1, service(f"user = '{USER}'"))
    script = ground.current.resolve() / "service.py"
    if others:
        os.chown(script, 61234, 61234)
    running = start(ground)
    ground.expect("serves")
    line = running.expect_line("Root loaded the code of Service before it became nobody")
    assert ("(uid 61234 may write " in line) is others
    assert "'sdsupervise run --user nobody'" in line


def test_a_second_socket_of_another_user(ground_of_all: Ground, host: str, port: int) -> None:
    """before_commit needs another socket where root has opened the first; the user that the service has become cannot
    have that. The reload to it says so, and the old code serves on; after one restart it works. A file in a directory
    of the user's own is no such matter."""
    ground = ground_of_all
    path = ground.directory / "own" / "app.sock"
    path.parent.mkdir()
    shutil.chown(path.parent, USER)
    tcp, unix = {"a": f"{host}:{port}"}, {"b": str(path)}
    unchecked = f"user = {USER!r}\n{HANDOVERS['overlap']}"
    checked = f"before_commit = ['true']\n{unchecked}"
    ground.deploy(1, echo(tcp, unchecked))
    running = start(ground)
    ground.expect("serves")
    ground.deploy(2, echo(tcp, checked))
    done = ground.reload()
    assert done.returncode == 1
    assert f"before_commit needs a second socket at {host}:{port} (listen 'a')" in done.stderr
    assert done.stderr.endswith("its worker was never stopped.\n") and ask((host, port))[0] == "1"
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.deploy(3, echo({**tcp, **unix}, checked))
    start(ground)
    ground.expect("serves", release=3)
    for release in 4, 5:
        ground.deploy(release, echo({**tcp, **unix}, checked))
        assert ground.reload().returncode == 0
        assert {ask((host, port))[0], ask(str(path))[0]} == {str(release)}
        assert path.stat().st_uid == pwd.getpwnam(USER).pw_uid


def test_a_pid_file_that_is_something_else(ground_of_all: Ground) -> None:
    """Who may rename files in its directory cannot have root write over another one, and give that away."""
    ground, entry = ground_of_all, pwd.getpwnam(USER)
    place = ground.directory / "own"
    place.mkdir()
    os.chown(place, entry.pw_uid, entry.pw_gid)
    secret = place / "service.pid"
    secret.write_text("SECRET=1\n")
    secret.chmod(0o600)
    ground.deploy(1, service())
    command = ["/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", secret, "--user", USER]
    running = ground.run(*command)
    assert running.wait() != 0
    assert f"Cannot use the pid file {secret}: it contains something other than a pid" in running.err
    assert (secret.read_text(), secret.stat().st_uid) == ("SECRET=1\n", 0)


def test_a_pid_file_that_root_still_writes(ground_of_all: Ground) -> None:
    """Nor can he have it give away one that root has made, and not filled yet: a new one takes its place."""
    ground, entry = ground_of_all, pwd.getpwnam(USER)
    place = ground.directory / "own"
    place.mkdir()
    os.chown(place, entry.pw_uid, entry.pw_gid)
    pid_file = place / "service.pid"
    ground.deploy(1)
    command = ["/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", pid_file, "--user", USER]
    with pid_file.open("w") as secret:
        fcntl.flock(secret, fcntl.LOCK_EX)
        assert ground.run(*command).wait() == 69
        assert os.path.samestat(os.fstat(secret.fileno()), pid_file.stat())  # whoever holds the lock keeps the file
        fcntl.flock(secret, fcntl.LOCK_UN)
        running = ground.run(*command)
        ground.expect("serves")
        secret.write("SECRET=1\n")
        secret.flush()
        assert os.fstat(secret.fileno()).st_uid == 0
    found = pid_file.stat()
    assert (pid_file.read_text(), found.st_uid, stat.S_IMODE(found.st_mode)) == (
        f"{running.pid}\n",
        entry.pw_uid,
        0o600,
    )
    ground.deploy(2)
    running.signal(signal.SIGUSR2)
    ground.expect("serves", release=2)
    assert pid_file.stat().st_ino == found.st_ino
    assert running.wait() == 0


@pytest.mark.parametrize("way", ["by a symlink", "by a relative path", "by a path of /proc"])
def test_stored_sockets_lead_nowhere(ground_of_all: Ground, way: str) -> None:
    """A supervisor that somebody has taken over can put any socket into systemd's store, under a name that says which
    file is its own. The next start, by root, neither gives away nor removes what is somebody else's."""
    ground, entry = ground_of_all, pwd.getpwnam(USER)
    (ground.directory / "victim").mkdir()
    victim = ground.directory / "victim/app.sock"
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as stored:
        theirs.bind(str(victim))
        before = victim.lstat()
        place = ground.directory / "own"
        (place / "victim").mkdir(parents=True)
        if way == "by a symlink":
            path = place / "victim/app.sock"
            stored.bind(str(path))
            (place / "victim").rename(place / "away")
            (place / "victim").symlink_to(victim.parent)
            os.chown(place / "victim", entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        else:  # which is the victim's for a supervisor that starts in the ground's directory
            path = ground.directory / "another.sock"
            with contextlib.chdir(place):
                stored.bind("victim/app.sock" if way == "by a relative path" else "/proc/self/cwd/victim/app.sock")
        stored.listen()
        ground.deploy(1, service(f"listen = {{'app': {str(path)!r}}}"))
        name = f"sdsupervise/app.{before.st_dev:x}.{before.st_ino:x}"
        os.set_inheritable(stored.fileno(), True)
        activate = [PYTHON, "-c", ACTIVATE, str(stored.fileno()), name, ""]
        command = ["/usr/bin/python3", "current/service.py", "--no-fork", "--pid-file", ground.pid_file]
        running = ground.run(*activate, *command, "--user", USER, pass_fds=[stored.fileno()])
        ground.expect("serves")
        running.signal(signal.SIGTERM)
        running.wait()
        after = victim.lstat()
        assert (after.st_ino, after.st_uid, after.st_mode) == (before.st_ino, before.st_uid, before.st_mode)
