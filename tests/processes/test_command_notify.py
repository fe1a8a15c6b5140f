"""What a command says on its NOTIFY_SOCKET: what is believed, shown, answered, refused and ignored."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from sdsupervise.linux import process_groups
from tests.support.harness import Ground, notify_socket
from tests.support.notifications import CASES, Case
from tests.support.running import Running, wait_gone

QUICK = ("--delay-before-respawn", "0", "--stop-timeout", "5")
OVERLAP = (*QUICK, "--handover", "overlap")
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
SERVES = 'report("serves", release=release); notify("READY=1"); wait()'


def start(ground: Ground, text: str, *options: object, release: object = 1) -> Running:
    ground.program(release, text)
    return ground.run_command("current/program", options=options or OVERLAP)


def worker(ground: Ground) -> dict[str, object]:
    """What status shows of the only worker."""
    workers = ground.status()["workers"]
    assert isinstance(workers, list) and len(workers) == 1
    return dict(workers[0])


@pytest.mark.parametrize("options", [QUICK, OVERLAP], ids=["exclusive", "overlap"])
def test_not_ready_before_it_says_so(ground: Ground, options: tuple[str, ...]) -> None:
    """The first generation serves when its command has said READY=1, not before."""
    ground.make_gate()
    running = start(ground, f'wait_at_gate("starts"); {SERVES}', *options)
    ground.expect("starts")
    assert ground.status()["state"] == "opening" and worker(ground)["state"] == "starting"
    ground.open_gate()
    running.expect_line("is ready")
    assert ground.status()["state"] == "serving" and worker(ground)["state"] == "serving"


def test_status_and_ping_are_shown(ground: Ground) -> None:
    """STATUS= and WATCHDOG=1 are shown of the worker, the last of each."""
    text = """
    notify("READY=1", "STATUS=warm"); notify("WATCHDOG=1"); notify("STATUS=serves \\x1b[2J ünder\\t100 %"); barrier()
    report("said"); wait()
    """
    start(ground, text)
    ground.expect("said")
    facts = worker(ground)
    assert facts["status"] == "serves ?[2J ünder 100 %"
    assert isinstance(facts["last_ping"], float)


@pytest.mark.parametrize("own_session", [False, True])
def test_a_child_speaks_for_its_command(ground: Ground, own_session: bool) -> None:
    """READY=1 and WATCHDOG=1 of any process of the command count, as with NotifyAccess=all."""
    text = f"""
    if os.fork() == 0:
        if {own_session}:
            os.setsid()
        notify("READY=1"); notify("WATCHDOG=1"); barrier(); report("said"); wait()
    wait()
    """
    start(ground, text)
    ground.expect("said")
    facts = worker(ground)
    assert facts["state"] == "serving" and isinstance(facts["last_ping"], float)


def test_silent_command(ground: Ground) -> None:
    """A command that has sent WATCHDOG=1 and then sends no more for worker_timeout is ended and started again."""
    running = start(
        ground, 'notify("READY=1\\nWATCHDOG=1"); report("serves"); wait()', *OVERLAP, "--worker-timeout", "0.3"
    )
    ground.expect("serves")
    running.expect_line(r"sent no ping for 0.3 s, ending it")
    running.expect_line("was killed by SIGABRT")
    ground.expect("serves")


def test_command_that_says_it_hangs(ground: Ground) -> None:
    """WATCHDOG=trigger ends a command at once."""
    running = start(ground, 'notify("READY=1"); notify("WATCHDOG=trigger"); wait()')
    running.expect_line("says that it hangs, ending it")
    running.expect_line("was killed by SIGABRT")


def test_command_that_leaves_by_itself(ground: Ground) -> None:
    """A command that said STOPPING=1 did not crash, whatever it exits with; another takes its place."""
    running = start(ground, 'notify("READY=1"); report("serves"); notify("STOPPING=1"); sys.exit(9)')
    running.expect_line("leaves by itself")
    running.expect_line("exited with status 9")
    ground.expect("serves")
    ground.expect("serves")
    assert ground.status()["crashes"] == 0


def test_command_that_leaves_too_slowly(ground: Ground) -> None:
    """A command that said STOPPING=1 has stop_timeout to leave."""
    text = 'notify("READY=1"); report("serves"); notify("STOPPING=1"); wait()'
    running = start(ground, text, *OVERLAP, "--stop-timeout", "0.2")
    running.expect_line("was killed by SIGKILL")


def test_start_that_takes_longer(ground: Ground) -> None:
    """EXTEND_TIMEOUT_USEC= gives a start that is going on more time, and a shorter one takes none away."""
    ground.make_gate()
    text = """
    if os.environ["SDSUPERVISE_WORKER_INDEX"] == "0":
        notify("EXTEND_TIMEOUT_USEC=" + str(2**64 - 1)); notify("EXTEND_TIMEOUT_USEC=1"); barrier()
        wait_at_gate("extended")
        report("goes on"); notify("READY=1")
    wait()
    """
    running = start(ground, text, *OVERLAP, "--start-timeout", "0.5", "--workers", "2")
    ground.expect("extended")
    running.expect_line("sent no READY=1 within 0.5 s")  # the other, which was started later
    ground.open_gate()
    ground.expect("goes on")


@pytest.mark.parametrize("options", [QUICK, OVERLAP], ids=["exclusive", "overlap"])
def test_command_that_never_says_ready(ground: Ground, options: tuple[str, ...]) -> None:
    """A command that says nothing within start_timeout is ended, and the sentence says what to do."""
    running = start(ground, 'leave_on(signal.SIGTERM); report("starts"); wait()', *options, "--start-timeout", "0.5")
    ground.expect("starts")
    line = running.expect_line("sent no READY=1 within 0.5 s")
    assert "if it cannot, use --ready-after" in line
    ground.expect("signal", name="SIGTERM")
    ground.expect("starts")


@pytest.mark.parametrize("options", [QUICK, OVERLAP], ids=["exclusive", "overlap"])
def test_ready_after(ground: Ground, options: tuple[str, ...]) -> None:
    """A program that cannot notify is ready when it has lived so long, and one that dies before is a crash."""
    running = ground.run_command("sleep", "1000", options=[*options, "--ready-after", "0.2"])
    running.expect_line("is ready")
    old = ground.worker_pids()
    assert ground.reload().returncode == 0
    wait_gone(old[0])
    assert ground.worker_pids() != old


def test_ready_after_too_short_a_life(ground: Ground) -> None:
    """A program that dies before --ready-after is not ready: under systemd the start fails and says so."""
    with notify_socket(ground):
        running = ground.run_command(
            "false",
            options=[*OVERLAP, "--ready-after", "10"],
            environment={"NOTIFY_SOCKET": str(ground.directory / "notify")},
        )
        assert running.wait() == 69
    assert "The service did not get ready: the worker exited with status 1" in running.err


def test_refused_and_ignored(ground: Ground) -> None:
    """MAINPID= is refused with a warning, garbage is ignored with one, what is systemd's alone without; descriptors are
    closed, and nothing of it disturbs what comes next."""
    text = (
        r"""
    report("pid")
    garbage = "\udcff\udcfe", "no assignment", "=", "\n\n", "X=" * 2000, "A=" + "x" * 9000
    systemds = "READY=0", "RELOADING=1", "FDSTORE=1\nFDNAME=x", "FDSTOREREMOVE=1", "NOTIFYACCESS=all", "WATCHDOG_USEC=1"
    others = "EXTEND_TIMEOUT_USEC=-1", "EXTEND_TIMEOUT_USEC=x", "ERRNO=5", "STATUS="
    for datagram in ("MAINPID=1", "MAINPID=" + str(os.getpid()), *garbage, *systemds, *others):
        notify(datagram)
    notify("")
    ours, theirs = os.pipe()
    notify("FDSTORE=1", "FDNAME=x", fds=[theirs, theirs, theirs])
    notify("READY=0", "X_SDSUPERVISE_ANSWER=1", fds=[theirs, os.open("/dev/null", os.O_RDONLY)])  # not to be written to
    os.close(theirs)
    report("closed", rest=os.read(ours, 10))
    """
        + SERVES
    )
    running = start(ground, text)
    ground.expect("closed", rest=b"")
    ground.expect("serves")
    running.expect_line("is ready")
    warnings = [line for line in running.err.splitlines() if "Worker (pid" in line and "is ready" not in line]
    assert len(warnings) == 1
    assert "It sent MAINPID=1. A worker stays the process that the supervisor started" in warnings[0]
    (pid,) = ground.worker_pids()
    assert str(ground.seen("pid")[0].pid) == str(pid)


def test_flood(ground: Ground) -> None:
    """A command that never stops notifying does not keep the supervisor from the others' business."""
    text = 'notify("READY=1")\nwhile True: notify("STATUS=flood")'
    running = start(ground, text, *OVERLAP, "--workers", "2")
    running.expect_line("is ready")
    running.expect_line("is ready")
    pids = ground.worker_pids()
    ground.program(2, SERVES)
    assert ground.reload().returncode == 0
    for pid in pids:
        wait_gone(pid)


def test_systemd_hears_none_of_it(ground: Ground) -> None:
    """What a command says reaches systemd in no form but the supervisor's own."""
    with notify_socket(ground) as systemd:
        ground.program(1, 'notify("STATUS=mine", "STOPPING=0", "X=1"); notify("MAINPID=1"); ' + SERVES)
        running = ground.run_command(
            "current/program", options=OVERLAP, environment={"NOTIFY_SOCKET": str(ground.directory / "notify")}
        )
        ground.expect("serves")
        heard = ""
        while "READY=1" not in heard:
            heard += systemd.recv(4096).decode() + "\n"
        assert "MAINPID" not in heard and "X=1" not in heard and "STOPPING" not in heard
        running.signal(signal.SIGTERM)
        assert running.wait() == 0


def test_socket_goes_with_its_worker(ground: Ground) -> None:
    """Each worker has a socket of its own; it is gone when the worker is, and the directory when the supervisor is."""
    running = start(ground, f'report("socket", path=os.environ["NOTIFY_SOCKET"]); {SERVES}')
    first = ground.expect("socket")
    os.kill(first.pid, signal.SIGKILL)
    second = ground.expect("socket")
    assert first.said("path") != second.said("path")
    running.expect_line("is ready")
    directory = Path(second.said("path")).parent
    assert [path.name for path in directory.iterdir()] == [Path(second.said("path")).name]
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not directory.exists()


def test_what_killed_supervisors_left_is_removed(ground: Ground) -> None:
    """In a unit's runtime directory the sockets of a supervisor that was killed are removed by the next one."""
    runtime = ground.directory / "run"
    runtime.mkdir()
    ground.program(1, SERVES)
    environment = {"RUNTIME_DIRECTORY": str(runtime)}
    for _ in range(2):
        running = ground.run_command("current/program", options=OVERLAP, environment=environment)
        ground.expect("serves")
        assert len(list(runtime.glob("notify.*"))) == 1
        running.signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL


@pytest.mark.parametrize("name", ["notify.", "notify.x.y", "notify.²", f"notify.{'9' * 200}"])
def test_what_others_call_alike_is_left_alone(ground: Ground, name: str) -> None:
    """Whoever may write there may make such a directory, too: it keeps no supervisor from its start, and stays."""
    runtime = ground.directory / "run"
    (runtime / name).mkdir(parents=True)
    ground.program(1, SERVES)
    ground.run_command("current/program", options=OVERLAP, environment={"RUNTIME_DIRECTORY": str(runtime)})
    ground.expect("serves")
    assert (runtime / name).is_dir()


def test_many_short_lives(ground: Ground) -> None:
    """Two hundred commands that die at once leave no descriptor, no file and no process behind."""
    running = ground.run_command("true", options=[*OVERLAP, "--respawn-backoff-limit", "0"])
    process = psutil.Process(running.pid)
    running.expect_line("exited with status 0")
    before = process.num_fds()
    for _ in range(200):
        running.expect_line("exited with status 0")
    assert abs(process.num_fds() - before) <= 4
    assert len(list(ground.directory.glob("notify.*/*"))) <= 2


@needs_root
def test_other_users_do_not_find_the_socket(ground: Ground) -> None:
    """Another user can neither list the directory of a worker's socket, nor learn its path from the kernel."""
    start(ground, f'report("socket", path=os.environ["NOTIFY_SOCKET"]); {SERVES}')
    path = Path(ground.expect("socket").said("path"))
    assert path.name not in Path("/proc/net/unix").read_text()
    stranger = ground.run("ls", path.parent, user=NOBODY, group=NOBODY, extra_groups=[])
    assert stranger.wait() != 0
    stranger.expect_line("Permission denied")


@needs_root
@pytest.mark.parametrize("copies_the_mark", [False, True])
def test_peers_of_a_worker_cannot_speak_for_it(ground: Ground, copies_the_mark: bool) -> None:
    """Another user who knows the path of a worker's socket is not believed, and the log says who sent it.

    The mark of the worker's processes, a limit that anybody can read and set, does not help.
    """
    running = start(ground, 'report("socket", path=os.environ["NOTIFY_SOCKET"]); wait()')
    socket = ground.expect("socket")
    path = socket.said("path")
    says = f"""if True:
        import os, resource, socket
        if {copies_the_mark}:
            limits = open("/proc/{socket.pid}/limits").read().splitlines()
            mark = int(next(line.split()[3] for line in limits if line.startswith("Max file locks")))
            resource.setrlimit({process_groups._FILE_LOCKS}, (mark, mark))
        ours, theirs = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect({path!r})
            socket.send_fds(sender, [b"READY=1\\nSTATUS=mine\\nBARRIER=1"], [theirs])
        os.close(theirs)
        os.read(ours, 1)
    """
    stranger = ground.run("/usr/bin/python3", "-c", says, user=NOBODY, group=NOBODY, extra_groups=[])
    assert stranger.wait() == 0
    line = running.expect_line("sent a notification")
    assert f"Pid {stranger.pid} of uid {NOBODY} sent a notification, and is not known as a process of this" in line
    facts = worker(ground)
    assert (facts["state"], facts["status"]) == ("starting", "")


@needs_root
@pytest.mark.parametrize("options", [QUICK, OVERLAP], ids=["exclusive", "overlap"])
@pytest.mark.parametrize("who", ["itself", "child"])
def test_command_that_becomes_another_user(ground: Ground, who: str, options: tuple[str, ...]) -> None:
    """A daemon that starts as root and becomes another user is believed, and so is its child in another session."""
    text = """
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
    if WHO == "child" and os.fork():
        wait()
    if WHO == "child":
        os.setsid()
    notify("READY=1", "STATUS=serves"); barrier()
    report("serves", release=release, uid=os.getuid()); wait()
    """.replace("WHO", repr(who))
    running = start(ground, text, *options)
    ground.expect("serves", release=1, uid=NOBODY)
    running.expect_line("is ready")
    assert worker(ground)["status"] == "serves"
    ground.program(2, text)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2, uid=NOBODY)


@needs_root
def test_place_that_other_users_can_reach(ground: Ground) -> None:
    """Root makes its sockets where a worker that becomes another user can reach them."""
    private, public = ground.directory / "private", ground.directory / "public"
    private.mkdir(mode=0o750)
    public.mkdir(mode=0o755)
    ground.program(1, f'report("socket", path=os.environ["NOTIFY_SOCKET"]); {SERVES}')
    ground.run_command(
        "current/program", options=OVERLAP, environment={"RUNTIME_DIRECTORY": str(private), "TMPDIR": str(public)}
    )
    assert ground.expect("socket").said("path").startswith(f"{public}/notify.")


SAYS = """
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(os.environ["NOTIFY_SOCKET"])
sender.send(bytes.fromhex({data!r}))
barrier()
report("said")
wait()
"""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_as_systemd(ground: Ground, case: Case) -> None:
    """A datagram that is odd is read as systemd reads it: ready or not, and with the same status; what is ignored is
    named once in the log."""
    running = start(ground, SAYS.format(data=case.data.hex()))
    ground.expect("said")
    facts = worker(ground)
    assert (facts["state"], facts["status"]) == ("serving" if case.ready else "starting", case.status)
    odd = case.data.count(b"\0", 0, -1) > 0 or len(case.data) > 4096 or b"STATUS=l\xe4" in case.data
    assert ("Ignoring it" in running.err) >= odd
