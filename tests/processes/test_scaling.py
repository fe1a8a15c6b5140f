"""More workers, or fewer, while the service runs: by a signal, by the control socket, by `sdsupervise scale`."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdsupervise.control.client import Client
from tests.processes.test_pool import member, serving, stop, workers
from tests.support.harness import PYTHON, SDSUPERVISE, Ground
from tests.support.running import LIMIT_SECONDS

MORE = "max_workers = 100"  # exclusive services may not be scaled beyond their workers without it


def scale(ground: Ground, number: str) -> subprocess.CompletedProcess[str]:
    """`sdsupervise scale`, to its end."""
    return ground.finish(ground.run(SDSUPERVISE, "scale", "--pid-file", ground.pid_file, number))


def indices(ground: Ground) -> list[int]:
    """Of the workers, as status shows them."""
    return [worker["index"] for worker in workers(ground)]


def test_by_signal(ground: Ground) -> None:
    """SIGTTIN is one worker more, under the next number; SIGTTOU one less, the one with the highest."""
    ground.deploy(1, member(MORE))
    running = ground.start()
    found = [report.pid for report in serving(ground)]
    running.signal(signal.SIGTTIN)
    found.append(ground.expect("serves", index=3).pid)
    assert ground.worker_pids() == found
    running.expect_line("Scaling from 3 to 4 workers, asked by SIGTTIN")
    for index in (3, 2):
        running.signal(signal.SIGTTOU)
        assert ground.expect("shutdown").pid == found[index]
        running.expect_line(rf"Worker {index} \(pid {found[index]}\) has left: it exited with status 0")
    assert ground.worker_pids() == found[:2] and ground.status()["crashes"] == 0
    running.signal(signal.SIGTTIN)
    found[2:] = [ground.expect("serves", index=2).pid]
    assert ground.worker_pids() == found and ground.status()["healthy"] is True
    stop(running)
    ground.expect_nothing_left()


def test_by_command(ground: Ground) -> None:
    """`sdsupervise scale` takes a number, or how many more or fewer, and says how many there are to be."""
    ground.deploy(1, member(MORE))
    ground.start()
    serving(ground)
    for number, size in (("5", 5), ("-2", 3), ("+1", 4), ("4", 4), ("1", 1)):
        done = scale(ground, number)
        assert (done.returncode, done.stdout) == (0, f"SCALED: {size} workers\n"), done
        pool = ground.status()["pool"]
        assert isinstance(pool, dict) and pool["workers"] == size
    assert [ground.expect("serves", index=index).said("index") for index in (3, 4, 3)] == ["3", "4", "3"]


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
def test_no_more_than_max_workers(ground: Ground, handover: str) -> None:
    """Up to there, by whatever way it is asked for."""
    ground.deploy(1, member(f"handover = {handover!r}\nmax_workers = 4"))
    running = ground.start()
    serving(ground)
    refusal = "There cannot be 5 workers: max_workers is 4."
    assert scale(ground, "4").returncode == 0
    ground.expect("serves", index=3)
    done = scale(ground, "+1")
    assert (done.returncode, done.stderr) == (1, f"NOT SCALED. {refusal}\n")
    running.signal(signal.SIGTTIN)
    running.expect_line(f"Scaling asked by SIGTTIN refused: {refusal}")
    assert call_scale(ground, {"workers": 5}) == refusal
    assert indices(ground) == [0, 1, 2, 3]
    pool = ground.status()["pool"]
    assert pool == {"workers": 4, "serving": 4, "max_workers": 4, "automatic": False}


def call_scale(ground: Ground, asked: dict[str, int]) -> str:
    """Ask on the control socket; why it was refused."""
    client = Client.connect(ground.control, timeout_seconds=LIMIT_SECONDS)
    answer = next(client.call("Scale", asked))
    client.close()
    assert answer.error == "ScaleRefused"
    return str(answer.parameters["reason"])


def test_exclusive_stays_at_its_workers(ground: Ground) -> None:
    """What may not do its work twice is not made to by whoever scales it: refused, by whatever way it is asked for,
    with what to set. Fewer may be had, and the old number again."""
    ground.deploy(1, member())
    running = ground.start()
    found = [report.pid for report in serving(ground)]
    refusal = (
        "There cannot be 4 workers: the service is exclusive, with workers = 3; if more may work at a time, set "
        "max_workers."
    )
    done = scale(ground, "4")
    assert (done.returncode, done.stderr) == (1, f"NOT SCALED. {refusal}\n")
    running.signal(signal.SIGTTIN)
    running.expect_line(f"Scaling asked by SIGTTIN refused: {refusal}")
    assert call_scale(ground, {"by": 1}) == refusal
    assert ground.worker_pids() == found
    assert scale(ground, "-1").returncode == 0
    assert scale(ground, "+1").returncode == 0
    ground.expect("serves", index=2)
    assert scale(ground, "+1").returncode == 1
    assert indices(ground) == [0, 1, 2]
    stop(running)


def test_exclusive_command_stays_at_its_workers(ground: Ground) -> None:
    """The same for what is exclusive by default."""
    text = 'be_the_only_one(); report("serves"); notify("READY=1"); wait()'
    ground.program(1, text)
    ground.run_command("current/program")
    ground.expect("serves")
    done = scale(ground, "2")
    assert done.returncode == 1 and "with workers = 1; if more may work at a time, set max_workers." in done.stderr
    assert indices(ground) == [0]


def test_auto_is_a_number_too(ground: Ground) -> None:
    """`workers = "auto"` is as many as there are CPUs, and no more than max_workers; that is the limit."""
    cpus = len(os.sched_getaffinity(0))
    ground.deploy(1, member("workers = 'auto'"))
    ground.start()
    serving(ground, cpus)
    done = scale(ground, "+1")
    assert done.returncode == 1 and "the service is exclusive, with workers = auto;" in done.stderr
    ground.deploy(2, member("workers = 'auto'\nmax_workers = 1"))
    assert ground.reload().returncode == 0
    assert indices(ground) == [0]


@pytest.mark.parametrize(
    ("before", "after", "most", "why"),
    [
        (MORE, "", 3, "the service is exclusive, with workers = 3; if more may work at a time, set max_workers"),
        (MORE, "max_workers = 4", 4, "max_workers is 4"),
        ("handover = 'overlap'", "", 3, "the service is exclusive, with workers = 3;"),
        ("handover = 'overlap'", "handover = 'overlap'\nmax_workers = 4", 4, "max_workers is 4"),
    ],
)
def test_a_reload_to_fewer(ground: Ground, before: str, after: str, most: int, why: str) -> None:
    """What somebody scaled to outlives a reload only as far as the new code allows."""
    ground.deploy(1, member(before))
    running = ground.start()
    serving(ground)
    assert scale(ground, "6").returncode == 0
    for index in (3, 4, 5):
        ground.expect("serves", index=index)
    ground.deploy(2, member(after))
    assert ground.reload().returncode == 0
    serving(ground, most, release=2)
    assert indices(ground) == list(range(most))
    assert f"Starting {most} workers, not the 6 of the old generation: {why}" in running.err


def write_quota(group: Path, cpus: float) -> None:
    """Give a control group so many CPUs, in periods of a tenth of a second."""
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_quota_us").write_text(f"{cpus * 100_000:.0f}")
    else:
        (group / "cpu.max").write_text(f"{cpus * 100_000:.0f} 100000")


@contextlib.contextmanager
def quota(cpus: float) -> Iterator[Path]:
    """A control group that is given so many CPUs, wherever the cpu controller is."""
    groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    version_1 = next((name for name in groups if "cpu" in name.split(",")), None)
    base = Path("/sys/fs/cgroup") / (version_1 or "").split(",")[0]
    place = base / groups[version_1 or ""].lstrip("/") / f"sdsupervise-test-{os.getpid()}"
    try:
        place.mkdir()
        write_quota(place, cpus)
    except OSError as error:
        pytest.skip(f"no control group to be had here: {error}")
    yield place
    place.rmdir()


def test_auto_counts_what_the_quota_pays_for(ground: Ground) -> None:
    """`workers = "auto"` under a CPU quota is what that pays for, not the machine's CPUs; the log and status say so. A
    quota that has changed counts in the next reload, also after somebody scaled by hand."""
    ground.deploy(1, member('workers = "auto"\nmax_workers = 100'))
    with quota(0.5) as group:
        enter = ("sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh")
        running = ground.run(*enter, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
        running.expect_line(r"workers = \"auto\" is 1 here: the control group's quota is 0\.5 of \d+ CPUs?$")
        ground.expect("serves", index=0)
        assert ground.status()["pool"] == {"workers": 1, "serving": 1, "max_workers": 100, "automatic": True}
        shown = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file)).stdout
        assert re.search(r"^  workers +1 \(auto\)$", shown, re.MULTILINE)
        assert scale(ground, "3").returncode == 0
        ground.expect("serves", index=2)
        assert ground.reload().returncode == 0
        assert indices(ground) == [0, 1, 2]
        if len(os.sched_getaffinity(0)) > 1:
            write_quota(group, 1.2)
            assert ground.reload().returncode == 0
            assert indices(ground) == [0, 1]
        os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
        ground.expect_nothing_left()


@pytest.mark.parametrize("number", ["-3", "+9999"])
def test_out_of_range(ground: Ground, number: str) -> None:
    """There is at least one worker, and not more than the setting may ask for: one sentence, exit status 1."""
    ground.deploy(1, member())
    ground.start()
    serving(ground)
    done = scale(ground, number)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"NOT SCALED\. There cannot be \d+ workers, only from 1 to 10000\.\n", done.stderr)
    assert indices(ground) == [0, 1, 2]


@pytest.mark.parametrize("asked", [{"workers": 0}, {"workers": 10001}, {"by": 99999}, {"by": -1}, {}])
def test_the_supervisor_s_own_limits(ground: Ground, asked: dict[str, int]) -> None:
    """Whoever asks on the control socket without our command is refused by the supervisor, with the same limits."""
    ground.serving()
    assert call_scale(ground, asked).endswith(" from 1 to 10000.")


def test_the_last_one_stays(ground: Ground) -> None:
    """SIGTTOU does not take the last worker."""
    running = ground.serving()
    running.signal(signal.SIGTTOU)
    running.expect_line("Scaling asked by SIGTTOU refused: There cannot be 0 workers")
    assert len(ground.worker_pids()) == 1


@pytest.mark.parametrize("number", ["many", "1.5", "", "+"])
def test_no_number(ground: Ground, number: str) -> None:
    """What is no number is a wrong use: exit status 64."""
    done = scale(ground, number)
    assert done.returncode == 64 and f"{number!r} is not a number of workers" in done.stderr


@pytest.mark.parametrize("number", ["0", "10001", "+10000", "-10000"])
def test_never_a_number(ground: Ground, number: str) -> None:
    """Nor is there anybody to be asked about one that cannot be, however many there are now."""
    done = scale(ground, number)
    assert (done.returncode, done.stderr) == (
        64,
        f"{number!r} is out of range: there can be from 1 to 10000 workers.\n",
    )


def test_during_a_reload(ground: Ground) -> None:
    """A reload is not to be confused by a changing number: refused, with the reason; afterwards it works."""
    ground.deploy(1, member())
    ground.start()
    serving(ground)
    os.mkfifo(ground.directory / "go")
    wait = 'def warm_up(self):\n    if self.index == "2":\n        open(os.environ["GROUND"] + "/go").close()'
    ground.deploy(2, member(MORE, wait))
    reload = ground.reload_process()
    reload.expect_line("generation 2 is starting", stream="out")
    done = scale(ground, "+1")
    assert done.returncode == 1 and "NOT SCALED. A reload is in progress" in done.stderr
    os.close(os.open(ground.directory / "go", os.O_WRONLY))
    assert reload.wait() == 0
    serving(ground, release=2)
    assert scale(ground, "+1").returncode == 0
    ground.expect("serves", index=3, release=2)


def test_not_ready_yet(ground: Ground) -> None:
    """Before the service is ready there is nothing to scale."""
    ground.deploy(1, member('def warm_up(self):\n    open(os.environ["GROUND"] + "/go").close()'))
    os.mkfifo(ground.directory / "go")
    running = ground.start()
    running.expect_line("Generation 1 starts")
    done = scale(ground, "+1")
    assert done.returncode == 1 and "NOT SCALED. The service is not ready yet." in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_others_may_not(ground: Ground) -> None:
    """Only root and the service's own user may scale: exit status 77."""
    ground.deploy(1, member())
    ground.start()
    serving(ground)
    python = "/usr/bin/python3"
    code = f"""
import socket, json
s = socket.socket(socket.AF_UNIX); s.connect({ground.control!r})
s.sendall(json.dumps({{"method": "io.sdsupervise.Scale", "parameters": {{"by": 1}}}}).encode() + b"\\0")
print(s.recv(4096).decode())
"""
    asked = ground.run(python, "-c", code, user=61234, group=61234)
    assert asked.wait() == 0, asked.err
    assert "org.varlink.service.PermissionDenied" in asked.out and "may scale" in asked.out
    assert indices(ground) == [0, 1, 2]


def test_too_few_descriptors(ground: Ground) -> None:
    """More workers than there can be descriptors for are refused, and those that serve are left alone."""
    ground.deploy(1, member(MORE))
    ground.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)))
    serving(ground)
    done = scale(ground, "60")
    assert done.returncode == 1 and "NOT SCALED. Too few file descriptors are left for so many workers" in done.stderr
    assert scale(ground, "4").returncode == 0
    ground.expect("serves", index=3)


def test_one_that_takes_its_time(ground: Ground) -> None:
    """A worker that is to leave has stop_timeout to finish; then it is killed, and the log says what is cut. The others
    serve on all the while."""
    deaf = """
        stop_timeout = 0.3
        def serve(self):
            self.ping_supervisor()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            report("deaf")
            while True:
                signal.pause()
    """
    ground.deploy(1, member(deaf))
    running = ground.start()
    found = [report.pid for report in serving(ground)]
    for _ in range(3):
        ground.expect("deaf")
    assert scale(ground, "-1").returncode == 0
    running.expect_line(
        rf"Killing worker 2 of generation 1 \(pid {found[2]}\), which got the signal to stop 0\.\d s ago and still "
        f"runs; "
        r"it sent its last ping \d+\.\d s ago$"
    )
    running.expect_line(rf"Worker 2 \(pid {found[2]}\) has left: it was killed by SIGKILL")
    assert ground.worker_pids() == found[:2]


def test_why_one_is_missing(ground: Ground) -> None:
    """The status says it of a worker that there is to be, and forgets it with the place it had."""
    ground.deploy(1, member("delay_before_respawn = 1000.0"))
    running = ground.start()
    last = next(report.pid for report in serving(ground) if report.said("index") == "2")
    os.kill(last, signal.SIGKILL)
    running.expect_line(rf"Worker \(pid {last}\) was killed by SIGKILL")
    why = "with 2 of 3 workers: worker 2 was killed by SIGKILL, the next starts 1000 s later"
    assert str(ground.status()["status"]).endswith(why)
    assert scale(ground, "2").returncode == 0
    assert re.fullmatch(r"Generation 1 serves \S+ \(\w+\)", str(ground.status()["status"]))
    assert scale(ground, "3").returncode == 0
    assert "SIGKILL" not in str(ground.status()["status"])
    ground.expect("serves", index=2)
    stop(running)


def test_number_that_still_leaves(ground: Ground) -> None:
    """Exclusive: never two of one number. One that comes waits until the one that leaves with its number is gone."""
    slow = """
        def supervised_shutdown(self):
            report("leaves", index=self.index)
            open(os.environ["GROUND"] + "/go").close()
    """
    os.mkfifo(ground.directory / "go")
    ground.deploy(1, member(slow))
    ground.start()
    old = serving(ground)[2].pid
    assert scale(ground, "2").returncode == 0
    ground.expect("leaves", index=2)
    assert scale(ground, "3").returncode == 0
    assert [(worker["pid"], worker["state"]) for worker in workers(ground)][2:] == [(old, "stopping")]
    os.close(os.open(ground.directory / "go", os.O_WRONLY))
    assert ground.expect("serves", index=2).pid != old


def test_reload_keeps_the_number(ground: Ground) -> None:
    """What somebody scaled to outlives a reload, and another; unless the new code asks for another number."""
    ground.deploy(1, member(MORE))
    ground.start()
    serving(ground)
    assert scale(ground, "4").returncode == 0
    ground.expect("serves", index=3)
    for release in (2, 3):
        ground.deploy(release, member(MORE))
        assert ground.reload().returncode == 0
        serving(ground, 4, release=release)
    ground.deploy(4, member(MORE, "workers = 2"))
    assert ground.reload().returncode == 0
    serving(ground, 2, release=4)
    assert indices(ground) == [0, 1]
