"""What is tried on each systemd, in this order, on one machine: a function for each row of the table.

Each leaves the machine as it found it, but for the package, which is installed by the first and gone after the last;
each returns what is worth telling of how it went, or fails. `web` is units/example/web.py as an instance, under load.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.load.ground import Program
from tests.packages.built import TREE
from tests.packages.matrix.ground import EXAMPLES, NEXT_VERSION, VERSION, WEB, Ground, none_failed
from tests.support.journal import Entry

RELOADS = 20
UNIT = "sdsupervise@web.service"
BROKEN = "import requsts\n"

WEB_TOML = """\
directory = "/srv/web/current"
service = "web.py:Web"
delay_before_respawn = 0.1
"""

GUNICORN = Program("gunicorn")
GUNICORN_UNIT = "gunicorn.service"
# With sync workers: gthread of gunicorn 23, which Debian 13 has, drops what it has accepted and not yet read.
GUNICORN_SERVICE = """\
[Service]
Type=notify
DynamicUser=yes
WorkingDirectory=/srv/hello/current
ExecStart=/usr/bin/gunicorn --bind 127.0.0.1:8000 --workers 2 hello:application
"""

USER_SERVICE = """\
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/sdsupervise run --directory /srv/web/current web.py:Web
ExecReload=/usr/bin/sdsupervise reload /etc/sdsupervise/%N.toml
SuccessExitStatus=SIGTERM
KillMode=mixed
Restart=always
RestartPreventExitStatus=78
RuntimeDirectory=sdsupervise/%N
RuntimeDirectoryPreserve=restart
"""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    run: Callable[[Ground], str]


def install(ground: Ground) -> str:
    """`apt install ./sdsupervise.deb` on a fresh Debian resolves its dependencies, and starts and enables nothing."""
    enabled = ground.sh("systemctl list-unit-files --state=enabled --no-legend")
    active = ground.sh("systemctl list-units --state=active,failed --no-legend --plain 'sdsupervise*'")
    ground.install()
    assert ground.sh("systemctl list-unit-files --state=enabled --no-legend") == enabled
    assert ground.sh("systemctl list-units --state=active,failed --no-legend --plain 'sdsupervise*'") == active == ""
    assert ground.sh("systemctl --failed --no-legend") == ""
    assert ground.sh("sdsupervise --version") == f"sdsupervise {VERSION}\n"
    assert not [process for process in ground.machine.processes() if "sdsupervise" in " ".join(process.cmdline)]
    ground.machine.write("/etc/sdsupervise/web.toml", WEB_TOML)
    ground.deploy(1)
    return "starts and enables nothing"


def start(ground: Ground) -> str:
    """`systemctl start` returns when the service serves."""
    with ground.started(UNIT):
        assert ground.ask() == "release 1"
        assert ground.show(UNIT, "StatusText")
    return ""


def reloads(ground: Ground) -> str:
    """Twenty reloads under load, each to a release that clients see answer: not one request fails."""
    ground.deploy(1)
    with ground.started(UNIT), ground.load() as load:
        pids = {ground.main_pid(UNIT)}
        for release in range(2, RELOADS + 2):
            ground.deploy(release)
            ground.systemctl("reload", UNIT)
            load.wait_for(release)
            pids.add(ground.main_pid(UNIT))
        told = none_failed(load.end())
        assert len(pids) == RELOADS + 1
        assert ground.show(UNIT, "NRestarts") == "0"
    return f"{RELOADS} of {RELOADS}, {told}"


def failed_reload(ground: Ground) -> str:
    """A reload to broken code fails, `systemctl status` says why, and the old code serves on: no request fails."""
    ground.deploy(1)
    with ground.started(UNIT), ground.load() as load:
        main_pid = ground.main_pid(UNIT)
        ground.deploy(2, code=BROKEN)
        ground.fails("systemctl", "reload", UNIT)
        assert "No module named 'requsts'" in ground.show(UNIT, "StatusText")
        assert ground.main_pid(UNIT) == main_pid
        assert ground.ask() == "release 1"
        return none_failed(load.end())


def reload_applies_the_unit(ground: Ground) -> str:
    """What was changed in the unit, its environment and a limit, is in force after a reload."""
    ground.deploy(1)
    with ground.started(UNIT):
        ground.drop_in(UNIT, "edit", "Environment=COLOUR=blue", "LimitNOFILE=4321")
        ground.systemctl("reload", UNIT)
        main_pid = ground.main_pid(UNIT)
        assert "COLOUR=blue" in ground.machine.read(f"/proc/{main_pid}/environ").split("\0")
        assert "4321" in ground.machine.read(f"/proc/{main_pid}/limits")
        assert ground.show(UNIT, "NRestarts") == "0"
    ground.drop_in(UNIT, "edit")
    return "Environment=, LimitNOFILE="


def crash(ground: Ground) -> str:
    """A killed worker is replaced by its supervisor, whom systemd keeps as it is."""
    ground.deploy(1)
    with ground.started(UNIT):
        main_pid = ground.main_pid(UNIT)
        worker = next(process for process in ground.machine.processes(UNIT) if process.ppid == main_pid)
        ground.machine.kill(worker.pid, signal.SIGKILL)
        ground.machine.wait_until_gone(worker.pid, timeout_seconds=20)
        assert ground.ask() == "release 1"
        assert (ground.main_pid(UNIT), ground.show(UNIT, "NRestarts")) == (main_pid, "0")
    return ""


def supervisor_crash(ground: Ground) -> str:
    """A killed supervisor is started again by systemd; clients wait, and are refused by nobody."""
    ground.deploy(1)
    with ground.started(UNIT), ground.load() as load:
        ground.deploy(2)
        ground.machine.kill(ground.main_pid(UNIT), signal.SIGKILL)
        load.wait_for(2)
        result = load.end()
        assert (result.refused, result.timed_out, result.wrong) == (0, 0, 0), result.failures
        assert ground.show(UNIT, "NRestarts") == "1"
    return f"{result.requests} requests, 0 refused"


def watchdog(ground: Ground) -> str:
    """A supervisor that hangs is killed by systemd's watchdog, and started again."""
    ground.deploy(1)
    ground.drop_in(UNIT, "watchdog", "WatchdogSec=3")
    with ground.started(UNIT):
        journal = ground.machine.follow_journal()
        ground.machine.kill(ground.main_pid(UNIT), signal.SIGSTOP)
        journal.wait_for("Watchdog timeout")
        journal.wait_for(is_started)
        assert ground.ask() == "release 1"
    ground.drop_in(UNIT, "watchdog")
    return ""


def restart(ground: Ground) -> str:
    """`systemctl restart`: what was begun is finished, clients wait meanwhile, and no request fails."""
    ground.deploy(1)
    with ground.started(UNIT), ground.load() as load:
        ground.deploy(2)
        ground.systemctl("restart", UNIT)
        load.wait_for(2)
        return none_failed(load.end())


def stop(ground: Ground) -> str:
    """`systemctl stop` ends in success and leaves nothing."""
    ground.start(UNIT)
    ground.systemctl("stop", UNIT)
    ground.assert_gone(UNIT)
    assert not ground.machine.exists("/run/sdsupervise/web")
    return ""


def socket_activation(ground: Ground) -> str:
    """`sdsupervise@web.socket` alone is started; the first client starts the service, and is answered. So is one who
    comes while the service is stopped."""
    ground.deploy(1)
    socket = "sdsupervise@web.socket"
    path = f"/etc/systemd/system/{socket}.d/edit.conf"
    ground.machine.write(path, f"[Socket]\nListenStream=\nListenStream={WEB.address}\nFileDescriptorName=http\n")
    ground.systemctl("daemon-reload")
    ground.systemctl("start", socket)
    for _ in range(2):
        ground.forgive(UNIT)
        assert ground.show(UNIT, "ActiveState") == "inactive"
        assert ground.ask() == "release 1"
        assert ground.show(UNIT, "ActiveState") == "active"
        ground.systemctl("stop", UNIT)
        ground.assert_gone(UNIT)
    ground.systemctl("stop", socket)
    ground.machine.remove(path)
    ground.systemctl("daemon-reload")
    return ""


def fd_store(ground: Ground) -> str:
    """systemd keeps the listening socket: it is the same one after the supervisor was killed."""
    ground.deploy(1)
    with ground.started(UNIT):
        sockets = set()
        for _ in range(2):
            assert ground.show(UNIT, "NFileDescriptorStore") == "1"
            sockets.add(ground.sh("grep ':1F90 00000000:0000 0A' /proc/net/tcp").split()[9])
            journal = ground.machine.follow_journal()
            ground.machine.kill(ground.main_pid(UNIT), signal.SIGKILL)
            journal.wait_for(is_started)
        assert len(sockets) == 1
    return ""


def dynamic_user(ground: Ground) -> str:
    """The example with DynamicUser=: no process of it is root's, its state is kept over a reload and a restart."""
    for release in (1, 2, 3):
        code = ground.sh(f"sed 's/^RELEASE = 1/RELEASE = {release}/' {EXAMPLES}/counter.py")
        ground.machine.write(f"/srv/counter/releases/{release}/counter.py", code)
    ground.machine.symlink("releases/1", "/srv/counter/current")
    ground.sh(f"cp {EXAMPLES}/counter.service /etc/systemd/system/; systemctl daemon-reload")
    ask = "import socket; print(socket.create_connection(('127.0.0.1', 7000)).makefile().read().strip())"
    with ground.started("counter.service"):
        assert ground.sh(f'python3 -c "{ask}"') == "release 1 says 1\n"
        for release, verb in ((2, "reload"), (3, "restart")):
            ground.machine.symlink(f"releases/{release}", "/srv/counter/current")
            ground.systemctl(verb, "counter")
            assert ground.sh(f'python3 -c "{ask}"') == f"release {release} says {release}\n"
        for process in ground.machine.processes("counter.service"):
            assert ground.sh(f"stat --format=%u /proc/{process.pid}").strip() != "0"
    ground.sh("rm /etc/systemd/system/counter.service; rm -r /var/lib/private/counter; systemctl daemon-reload")
    return ""


def hardened(ground: Ground) -> str:
    """With all of hardened.conf in force the service starts, answers, and is reloaded under load."""
    ground.deploy(1)
    directory = f"/etc/systemd/system/{UNIT}.d"
    ground.sh(f"install -D -m 644 /usr/share/sdsupervise/hardened.conf {directory}/hardened.conf")
    ground.systemctl("daemon-reload")
    score = ground.sh(f"systemd-analyze security --no-pager {UNIT} | tail -n 1")
    with ground.started(UNIT), ground.load() as load:
        ground.deploy(2)
        ground.systemctl("reload", UNIT)
        load.wait_for(2)
        none_failed(load.end())
    # systemd 252 leaves a link to the runtime directory of a made-up user, and then cannot make that of another.
    ground.sh(f"rm -r {directory}; rm -f /run/sdsupervise/web")
    ground.systemctl("daemon-reload")
    return f"exposure {exposure(score):.1f}"


def wrap(ground: Ground) -> str:
    """Debian's gunicorn under a unit of its own is wrapped, is reloaded under load, and unwrapped is as it was."""
    ground.apt("install", "gunicorn")
    ground.machine.write(f"/etc/systemd/system/{GUNICORN_UNIT}", GUNICORN_SERVICE)
    ground.deploy(1, GUNICORN)
    ground.systemctl("daemon-reload")
    before = ground.systemctl("cat", GUNICORN_UNIT)
    ground.sh(f"sdsupervise unit wrap --write {GUNICORN_UNIT}")
    with ground.started(GUNICORN_UNIT), ground.load(GUNICORN) as load:
        for release in (2, 3):
            ground.deploy(release, GUNICORN)
            ground.systemctl("reload", GUNICORN_UNIT)
            load.wait_for(release)
        told = none_failed(load.end())
    ground.sh(f"sdsupervise unit unwrap {GUNICORN_UNIT}")
    assert ground.systemctl("cat", GUNICORN_UNIT) == before
    with ground.started(GUNICORN_UNIT):
        assert ground.ask(GUNICORN.address) == "release 3"
    return told


def user(ground: Ground) -> str:
    """A user's own systemd runs an instance: it starts, is reloaded under load, and stops, without root."""
    ground.sh("useradd --create-home anna")
    ground.machine.write("/home/anna/.config/systemd/user/web.service", USER_SERVICE)
    ground.deploy(1)
    uid = ground.sh("id -u anna").strip()
    ground.systemctl("start", f"user@{uid}.service")

    def systemctl(*words: str) -> str:
        become = ("setpriv", "--reuid=anna", "--regid=anna", "--init-groups")
        environment = {"XDG_RUNTIME_DIR": f"/run/user/{uid}", "HOME": "/home/anna"}
        return ground.machine.run(*become, "systemctl", "--user", *words, env=environment).stdout.strip()

    systemctl("start", "web")
    with ground.load() as load:
        ground.deploy(2)
        systemctl("reload", "web")
        load.wait_for(2)
        told = none_failed(load.end())
    shown = systemctl("show", "--property=NRestarts,ActiveState", "web")
    assert set(shown.splitlines()) == {"NRestarts=0", "ActiveState=active"}
    systemctl("stop", "web")
    assert systemctl("show", "--property=Result", "--value", "web") == "success"
    ground.systemctl("stop", f"user@{uid}.service")
    ground.sh("userdel --remove anna 2>/dev/null")
    return told


def autopkgtest(ground: Ground) -> str:
    """What Debian's own test runner would run: the package's test of itself."""
    ground.machine.write("/tmp/service", (TREE / "packaging/debian/tests/service").read_text())
    ground.sh("sh /tmp/service")
    ground.sh("rm -r /etc/systemd/system/counter.service /var/lib/private/counter")
    ground.systemctl("daemon-reload")
    return ""


def upgrade(ground: Ground) -> str:
    """An upgrade touches no running service, and says which run the old version; a reload moves them. All of it under
    load: not one request fails."""
    ground.deploy(1)
    with ground.started(UNIT), ground.load() as load:
        main_pid = ground.main_pid(UNIT)
        told = ground.install(NEXT_VERSION)
        assert f"these instances run another version than {NEXT_VERSION}: web\n" in told
        assert "sdsupervise reload --outdated" in told
        # What the package runs then, where its settings are no shell, and where an instance hangs.
        ground.sh("cp /etc/default/sdsupervise /tmp/; echo 'yes)' >>/etc/default/sdsupervise")
        ground.machine.kill(main_pid, signal.SIGSTOP)
        assert "web does not answer" in ground.sh("/usr/libexec/sdsupervise/upgraded 2>&1")
        ground.machine.kill(main_pid, signal.SIGCONT)
        assert "no service was touched" in ground.sh("/usr/libexec/sdsupervise/upgraded")
        ground.sh("mv /tmp/sdsupervise /etc/default/")
        assert (ground.main_pid(UNIT), ground.version_of("web")) == (main_pid, VERSION)
        ground.deploy(2)
        ground.sh("sdsupervise reload --outdated")
        load.wait_for(2)
        assert ground.version_of("web") == NEXT_VERSION
        assert ground.main_pid(UNIT) != main_pid
        assert ground.show(UNIT, "NRestarts") == "0"
        return none_failed(load.end())


def upgrade_that_reloads(ground: Ground) -> str:
    """With RELOAD_ON_UPGRADE=yes the package moves them, one by one, under load; unless policy-rc.d forbids it, which
    it obeys. (From the newer release to the older: that is a release like another.)"""
    ground.sh("sed -i s/^RELOAD_ON_UPGRADE=.*/RELOAD_ON_UPGRADE=yes/ /etc/default/sdsupervise")
    ground.deploy(1)
    with ground.started(UNIT), ground.load() as load:
        main_pid = ground.main_pid(UNIT)
        ground.machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
        told = ground.install(VERSION)
        assert "web was not reloaded and runs on as it was" in told
        assert (ground.main_pid(UNIT), ground.version_of("web")) == (main_pid, NEXT_VERSION)
        ground.machine.remove("/usr/sbin/policy-rc.d")
        ground.sh("sdsupervise reload web")
        assert ground.version_of("web") == VERSION
        ground.deploy(2)
        told = ground.install(NEXT_VERSION)
        assert "reloaded web\n" in told
        load.wait_for(2)
        assert ground.version_of("web") == NEXT_VERSION
        assert ground.show(UNIT, "NRestarts") == "0"
        return none_failed(load.end())


def removal(ground: Ground) -> str:
    """Removal stops instances, and says which units of others will not start without it, and what to do about it.
    Purging leaves nothing."""
    ground.apt("install", "gunicorn")
    ground.deploy(1)
    ground.systemctl("enable", UNIT)
    ground.start(UNIT)
    ground.machine.write(f"/etc/systemd/system/{GUNICORN_UNIT}", GUNICORN_SERVICE)
    ground.deploy(1, GUNICORN)
    ground.sh(f"sdsupervise unit wrap --write {GUNICORN_UNIT}")
    ground.start(GUNICORN_UNIT)
    ground.fails("systemctl", "start", "sdsupervise@absent")
    told = ground.apt("remove", "sdsupervise")
    ground.assert_gone(UNIT)
    assert f"{GUNICORN_UNIT} runs under sdsupervise and will not start again without it" in told
    assert ground.show(GUNICORN_UNIT, "ActiveState") == "active"
    (remedy,) = (line.partition("    ")[2] for line in told.splitlines() if "rm /etc/systemd" in line)
    ground.sh(remedy)
    assert ground.ask(GUNICORN.address) == "release 1"
    assert "gunicorn" in " ".join(ground.machine.processes(GUNICORN_UNIT)[0].cmdline)
    ground.systemctl("stop", GUNICORN_UNIT)
    ground.sh(f"rm /etc/systemd/system/{GUNICORN_UNIT}")
    ground.apt("purge", "sdsupervise")
    assert {path for path in ground.files() if "sdsupervise" in path} == set()
    assert ground.sh("systemctl --failed --no-legend; systemctl list-unit-files --no-legend 'sdsupervise*' || :") == ""
    return "purged: nothing is left"


def exposure(line: str) -> float:
    """The number in the last line of `systemd-analyze security`."""
    return float(line.partition(":")[2].split()[0])


def is_started(entry: Entry) -> bool:
    """systemd says that the unit is up."""
    return entry["MESSAGE"].startswith("Started") and entry.get("UNIT") == UNIT


ROWS: Sequence[Row] = (
    Row("install", install),
    Row("start", start),
    Row("20 reloads under load", reloads),
    Row("failed reload", failed_reload),
    Row("reload applies the unit", reload_applies_the_unit),
    Row("worker crash", crash),
    Row("supervisor crash", supervisor_crash),
    Row("watchdog", watchdog),
    Row("restart", restart),
    Row("stop", stop),
    Row("`.socket` activation", socket_activation),
    Row("fd store", fd_store),
    Row("`DynamicUser=`", dynamic_user),
    Row("`hardened.conf`", hardened),
    Row("gunicorn: wrap, unwrap", wrap),
    Row("`systemd --user`", user),
    Row("autopkgtest", autopkgtest),
    Row("upgrade", upgrade),
    Row("upgrade that reloads", upgrade_that_reloads),
    Row("removal, purge", removal),
)
