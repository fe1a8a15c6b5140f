"""What the template forbids, that each line is taken back as its comment says, and that ordinary services run in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from tests.support.fixtures import Equipment, booted
from tests.support.machine import Machine
from tests.support.units import UNITS, install_units

MACHINE = Equipment(units=True, programs=True)

TEMPLATE = (UNITS / "sdsupervise@.service").read_text()
SANDBOX = TEMPLATE.partition("# The lines below forbid")[2].partition("[Install]")[0]
HIGHEST_EXPOSURE = 40  # in tenths
UNIT = "sdsupervise@probe.service"
# Tries everything, says how each attempt ended, and serves.
PROBE = """\
#!/usr/bin/python3
import ctypes, json, os, signal, socket, subprocess, time
libc = ctypes.CDLL(None, use_errno=True)
(own_cgroup,) = ["/sys/fs/cgroup" + line[3:].strip() for line in open("/proc/self/cgroup") if line.startswith("0::")]

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def in_child(do):
    pid = os.fork()
    if pid == 0:
        try:
            do()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status >= 0, status
    if status > 0:
        raise OSError(status, "in a child")

def as_nobody(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True, user="nobody").stdout.strip()

def of_nobody(do):
    child = subprocess.Popen(["sleep", "infinity"], user="nobody", stdout=subprocess.PIPE)
    try:
        return do(child.pid)
    finally:
        child.kill()

results = {}
for name, text in json.load(open("/srv/probe/attempts")).items():
    try:
        results[name] = eval(text)
    except OSError as error:
        results[name] = os.strerror(error.errno)
with open("/srv/probe/results", "w") as file:
    json.dump(results, file)
subprocess.run(["sdsupervise", "ready"], check=True)
signal.pause()
"""
DENIED, READ_ONLY = "Operation not permitted", "Read-only file system"


class Line(NamedTuple):
    """A line of the template, what it forbids, and how its comment says that it is taken back."""

    attempt: str
    ends: object  # as the attempt then does
    drop_in: tuple[str, ...]
    allowed: object = None  # how it ends with the drop-in
    by_itself: bool = True  # with the drop-in; else the container that these tests run in forbids it all the same


LINES: Mapping[str, Line] = {
    "ProtectSystem": Line("open('/usr/local/app/file', 'w').close()", READ_ONLY, ("ReadWritePaths=/usr/local/app",)),
    "NoNewPrivileges": Line("as_nobody('/srv/probe/id', '-u')", "65534", ("NoNewPrivileges=no",), "0"),
    "PrivateDevices": Line("os.path.exists('/dev/marker')", False, ("PrivateDevices=no", "ProtectClock=no"), True),
    "ProtectClock": Line(
        "time.clock_settime(time.CLOCK_REALTIME, time.time())",
        DENIED,
        ("ProtectClock=no", "CapabilityBoundingSet=CAP_SYS_TIME", "SystemCallFilter=@clock"),
        by_itself=False,
    ),
    "ProtectHostname": Line(
        "socket.sethostname(socket.gethostname())",
        DENIED,
        ("ProtectHostname=no", "CapabilityBoundingSet=CAP_SYS_ADMIN"),
    ),
    "ProtectKernelTunables": Line(
        "open('/proc/sys/kernel/core_pattern', 'a').close()",
        READ_ONLY,
        ("ProtectKernelTunables=no",),
        by_itself=False,
    ),
    "ProtectKernelModules": Line(
        "call('syscall', 175, None, 0, None)",
        DENIED,
        ("ProtectKernelModules=no", "CapabilityBoundingSet=CAP_SYS_MODULE", "SystemCallFilter=@module"),
        by_itself=False,
    ),
    "ProtectKernelLogs": Line(
        "call('klogctl', 10, None, 0)",
        DENIED,
        ("ProtectKernelLogs=no", "CapabilityBoundingSet=CAP_SYSLOG"),
        by_itself=False,
    ),
    "ProtectControlGroups": Line(
        "os.mkdir(own_cgroup + '/probe') or os.rmdir(own_cgroup + '/probe')",
        READ_ONLY,
        ("ProtectControlGroups=no", "Delegate=yes"),
    ),
    "RestrictAddressFamilies": Line(
        "socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close()",
        "Address family not supported by protocol",
        ("RestrictAddressFamilies=AF_PACKET",),
    ),
    "RestrictNamespaces": Line("in_child(lambda: call('unshare', 0x10000000))", DENIED, ("RestrictNamespaces=no",)),
    "RestrictRealtime": Line(
        "in_child(lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)))", DENIED, ("RestrictRealtime=no",)
    ),
    "RestrictSUIDSGID": Line("os.chmod('/srv/probe/file', 0o4755)", DENIED, ("RestrictSUIDSGID=no",)),
    "LockPersonality": Line("call('personality', 8)", DENIED, ("LockPersonality=no",)),
    "SystemCallArchitectures": Line("None", None, ("SystemCallArchitectures=x86",)),
    "CapabilityBoundingSet": Line(
        "in_child(lambda: call('mount', b'none', b'/mnt', b'tmpfs', 0, None))",
        DENIED,
        ("CapabilityBoundingSet=CAP_SYS_ADMIN", "SystemCallFilter=@mount"),
    ),
    "SystemCallFilter": Line(
        "in_child(lambda: call('ptrace', 0, 0, None, None))", DENIED, ("SystemCallFilter=@debug",)
    ),
}
# What the comments say that stays allowed, with how it ends.
ALLOWED: Mapping[str, tuple[str, object]] = {
    "devices": ("[os.path.exists(f'/dev/{name}') for name in ('null', 'random', 'pts', 'shm')]", [True] * 4),
    "netlink": ("len(socket.if_nameindex()) > 0", True),
    "owners": ("os.chown('/srv/probe/file', 65534, 65534)", None),
    "another's file": ("open('/srv/probe/nobodys').read()", "nobody's"),
    "another's process": ("of_nobody(lambda pid: os.kill(pid, 0))", None),
    "another's environment": ("len(of_nobody(lambda pid: open(f'/proc/{pid}/environ').read())) > 0", True),
    "chroot": ("in_child(lambda: os.chroot('/srv'))", None),
    "another user": ("in_child(lambda: (os.setgid(1), os.setuid(1)))", None),
    "priority": ("in_child(lambda: os.nice(-5))", None),
    "writing": (
        "[open(f'/{place}/of-the-probe', 'w').close() for place in ('etc', 'srv', 'opt', 'var', 'home', 'tmp')]",
        [None] * 6,
    ),
}


@pytest.fixture(scope="module")
def probe(machine: Machine) -> Iterator[Machine]:
    """A machine where an instance serves that tries all of it as root, in each of its generations."""
    attempts = {name: line.attempt for name, line in LINES.items()} | {
        name: text for name, (text, _) in ALLOWED.items()
    }
    machine.write("/srv/probe/probe", PROBE, mode=0o755)
    machine.write("/srv/probe/attempts", json.dumps(attempts))
    machine.write("/srv/probe/file", "")
    machine.write("/srv/probe/nobodys", "nobody's", mode=0o600)
    machine.write("/dev/marker", "")
    machine.write("/usr/local/app/file", "")
    machine.run("chown", "nobody:", "/srv/probe/nobodys")
    machine.run("install", "--mode=4755", "/usr/bin/id", "/srv/probe/id")
    machine.write("/etc/sdsupervise/probe.toml", 'command = ["/srv/probe/probe"]\ndirectory = "/srv/probe"\n')
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("rm", "-rf", "/srv/probe", "/dev/marker", "/usr/local/app", "/etc/sdsupervise/probe.toml")
    machine.run("sh", "-c", "rm /*/of-the-probe")


def results(machine: Machine) -> Mapping[str, object]:
    """How each attempt of the generation that serves has ended."""
    found: Mapping[str, object] = json.loads(machine.read("/srv/probe/results"))
    return found


def test_everything_that_is_said_to_be_allowed(probe: Machine) -> None:
    """What root may do, it may."""
    found = results(probe)
    assert {name: found[name] for name in ALLOWED} == {name: end for name, (_, end) in ALLOWED.items()}


@pytest.mark.parametrize("setting", LINES)
def test_each_line_forbids_and_is_taken_back(probe: Machine, setting: str) -> None:
    """What the template forbids fails; with the drop-in that the comment names, and a reload, that is allowed, and
    nothing else is."""
    line = LINES[setting]
    comment = re.search(rf"((?:^#.*\n)+)(?:^\w.*\n)*?^{setting}=", SANDBOX, re.MULTILINE)
    assert comment is not None
    missing = [each for each in line.drop_in if each.partition("=")[2] not in comment[1].replace("\n# ", " ")]
    assert missing == []
    before = results(probe)
    assert before[setting] == line.ends
    drop_in = f"/etc/systemd/system/{UNIT}.d/override.conf"
    try:
        probe.write(drop_in, "\n".join(("[Service]", *line.drop_in, "")))
        probe.run("systemctl", "daemon-reload")
        probe.run("systemctl", "reload", UNIT)
        after = results(probe)
    finally:
        probe.remove(drop_in)
        probe.run("systemctl", "daemon-reload")
        probe.run("systemctl", "reload", UNIT)
    changed = {name for name in after if after[name] != before[name]}
    if line.by_itself and line.ends != line.allowed:
        assert after[setting] == line.allowed
        assert changed == {setting}
    assert results(probe) == before


def test_every_line_is_explained_and_tried() -> None:
    """A comment stands before each setting, or the first of those that belong together, and each is tried here."""
    assert re.findall(r"^#.*\n(\w+)=", SANDBOX, re.MULTILINE) == list(LINES)
    assert set(re.findall(r"^(\w+)=", SANDBOX, re.MULTILINE)) - {"SystemCallErrorNumber"} == LINES.keys()


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_exposure(suite: str) -> None:
    """As `systemd-analyze security` scores it; 1.1 with hardened.conf."""
    unit = "sdsupervise@scored.service"
    for machine in booted(suite=suite, bare=True):
        assert machine.systemd_version.partition(".")[0] == {"bookworm": "252", "trixie": "257"}[suite]
        install_units(machine)
        for drop_in, exposure in (("", HIGHEST_EXPOSURE), ((UNITS / "hardened.conf").read_text(), 11)):
            machine.write(f"/etc/systemd/system/{unit}.d/hardened.conf", drop_in)
            machine.run("systemctl", "daemon-reload")
            machine.run("systemd-analyze", "security", "--no-pager", f"--threshold={exposure}", unit)
