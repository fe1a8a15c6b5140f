"""`sdsupervise metrics`: numbers that Prometheus can read, that are right, and that a reload does not set back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_older

from tests.support.harness import SDSUPERVISE, Ground, installed_package, service
from tests.support.running import wait_gone

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

# Debian 13's prometheus_client has a type for it, Debian 12's has none.
read_older = cast("Callable[[str], Iterable[Metric]]", parse_older)
Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]
DIES_ON_DEMAND = """
delay_before_respawn = 0.02
respawn_backoff_limit = 0.0
def serve(self):
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(3))
    report("serving", index=self.worker_index)
    super().serve()
"""


def metrics(ground: Ground, *options: object) -> str:
    """What the command prints."""
    done = ground.finish(ground.run(SDSUPERVISE, "metrics", "--pid-file", ground.pid_file, *options))
    assert done.returncode == 0, done
    return done.stdout


def numbers(text: str) -> Numbers:
    """Each sample, by its name and labels; that there are no two of one kind is part of what is tested."""
    assert text.endswith("# EOF\n")
    found: Numbers = {}
    for family in parse_openmetrics(text):  # type: ignore[no-untyped-call]
        assert family.name.startswith("sdsupervise_") and family.documentation
        for sample in family.samples:
            key = (sample.name.removeprefix("sdsupervise_"), tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Numbers, name: str, **labels: str) -> float | None:
    """One sample of the instance `service`; None if there is none."""
    return found.get((name, tuple(sorted({"instance": "service", **labels}.items()))))


def crash(ground: Ground, number: signal.Signals) -> None:
    """End the worker that serves, and wait until another does."""
    os.kill(ground.worker_pids()[0], number)
    ground.expect("serving")


def test_what_has_happened(ground: Ground) -> None:
    """Crashes by cause, reloads by verdict, how long they took, and how all stands now."""
    ground.make_gate()
    ground.deploy(1, service(DIES_ON_DEMAND))
    running = ground.start()
    ground.expect("serving")
    crash(ground, signal.SIGKILL)
    crash(ground, signal.SIGUSR1)
    found = numbers(metrics(ground))
    assert value(found, "worker_crashes_total", cause="SIGKILL") == 1
    assert value(found, "worker_crashes_total", cause="status 3") == 1
    assert value(found, "worker_starts_total") == 3
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    waits = "from told import wait_at_gate\ndef warm_up(self): wait_at_gate('waits')"
    ground.deploy(3, service(DIES_ON_DEMAND + waits.partition("\n")[2], before=waits.partition("\n")[0]))
    caller = ground.reload_process()
    ground.expect("waits")
    assert ground.reload().returncode == 1
    ground.open_gate()
    assert caller.wait() == 0
    ground.expect("serving")
    assert running.wait() == 0
    found = numbers(metrics(ground))
    for verdict in ("done", "failed", "refused"):
        assert value(found, "reloads_total", verdict=verdict) == 1
    for verdict in ("done", "failed"):
        assert value(found, "reload_duration_seconds_count", verdict=verdict) == 1
        assert (value(found, "reload_duration_seconds_sum", verdict=verdict) or 0) > 0
    assert value(found, "reload_phase_duration_seconds_count", phase="starting_successor") == 2
    assert value(found, "reload_phase_duration_seconds_count", phase="yielding") == 1
    assert value(found, "last_reload_successful") == 1
    assert value(found, "worker_crashes_total", cause="SIGKILL") == 1
    assert value(found, "worker_crashes_total", cause="status 3") == 1
    assert value(found, "worker_starts_total") == 4
    assert (value(found, "up"), value(found, "healthy"), value(found, "generation")) == (1, 1, 2)
    assert value(found, "workers", state="serving") == 1 and value(found, "workers", state="starting") == 0
    assert value(found, "workers_wanted") == 1
    for labels in ({"process": "supervisor", "worker": ""}, {"process": "worker", "worker": "0"}):
        resident = value(found, "resident_memory_bytes", **labels) or 0
        assert resident > value(found, "proportional_memory_bytes", **labels) > 0  # type: ignore[operator]
        assert value(found, "cpu_seconds_total", **labels) is not None
    code = next(dict(labels) for name, labels in found if name == "code_info")
    assert code["path"].endswith("releases/3/service.py") and code["fingerprint"]
    os.kill(ground.worker_pids()[0], signal.SIGKILL)
    ground.expect("waits")
    assert value(numbers(metrics(ground)), "worker_crashes_total", cause="SIGKILL") == 2


def test_a_worker_that_hangs(ground: Ground) -> None:
    """What we ended it for is the cause, not the signal it took."""
    body = """
    worker_timeout = 0.3
    start_timeout = 5.0
    delay_before_respawn = 0.02
    def serve(self):
        self.ping_supervisor()
        if not os.path.exists(os.environ["GROUND"] + "/hung"):
            open(os.environ["GROUND"] + "/hung", "w").close()
            time.sleep(1000)
        report("serving")
        while True:
            self.ping_supervisor()
            time.sleep(0.05)
    """
    ground.deploy(1, service(body))
    ground.start()
    ground.expect("serving")
    found = numbers(metrics(ground))
    assert value(found, "worker_crashes_total", cause="hung") == 1
    assert value(found, "worker_ping_age_seconds", worker="0") is not None


def test_a_pool(ground: Ground) -> None:
    """Each worker by its number."""
    ground.deploy(1, service(base="Member"))
    ground.start()
    for _ in range(3):
        ground.expect("serves")
    found = numbers(metrics(ground))
    assert value(found, "workers", state="serving") == 3
    for index in "012":
        assert (value(found, "resident_memory_bytes", process="worker", worker=index) or 0) > 0


@pytest.mark.parametrize("way", ["done", "failed", "the predecessor dies"])
def test_no_count_goes_down(ground: Ground, way: str) -> None:
    """Whatever becomes of a reload: whoever serves then knows all that was counted before, and during it."""
    ground.make_gate()
    ground.deploy(1, service(DIES_ON_DEMAND))
    running = ground.start()
    ground.expect("serving")
    crash(ground, signal.SIGKILL)
    before = "from told import wait_at_gate"
    then = "; sys.exit(5)" if way == "failed" else ""
    ground.deploy(2, service(f"{DIES_ON_DEMAND}def warm_up(self): wait_at_gate('waits'){then}", before=before))
    caller = ground.reload_process()
    ground.expect("waits")
    crash(ground, signal.SIGUSR1)  # while the new code starts
    if way == "the predecessor dies":
        running.signal(signal.SIGKILL)
        wait_gone(running.pid)
        assert caller.wait() != 0
    ground.open_gate()
    if way == "failed":
        assert caller.wait() == 1
    else:
        ground.expect("serving")
        assert way != "done" or caller.wait() == 0
    found = numbers(metrics(ground))
    assert value(found, "generation") == (1 if way == "failed" else 2)
    assert value(found, "worker_crashes_total", cause="SIGKILL") == 1
    assert value(found, "worker_crashes_total", cause="status 3") == 1
    assert value(found, "worker_crashes_total", cause="status 5") is None  # of the reload, which counts by itself
    for verdict in ("done", "failed"):
        assert value(found, "reloads_total", verdict=verdict) == (way == verdict)


# ------------------------------------------------------------------------------------------------------- where to


def test_a_file_for_node_exporter(ground: Ground) -> None:
    """A FILE.prom has the format its textfile collector can read, is readable, and is there at once or not at all."""
    ground.serving()
    path = ground.directory / "out/service.prom"
    path.parent.mkdir()
    assert metrics(ground, "--output", path) == ""
    families = {family.name: family for family in read_older(path.read_text())}
    assert families["sdsupervise_up"].samples[0].value == 1
    assert families["sdsupervise_build_info"].type == "gauge"  # "info" is what it cannot read
    assert {family.type for family in families.values()} <= {"gauge", "counter", "summary"}
    assert os.listdir(path.parent) == ["service.prom"] and path.stat().st_mode & 0o444 == 0o444
    metrics(ground, "--output", path, "--format", "openmetrics")
    assert value(numbers(path.read_text()), "up") == 1


def test_a_file_that_cannot_be_written(ground: Ground) -> None:
    """One sentence, and nothing is left beside it."""
    ground.serving()
    (ground.directory / "full").mkdir()
    for path, why in (("no/such/x.prom", "No such file or directory"), ("full", "Is a directory")):
        words = (SDSUPERVISE, "metrics", "--pid-file", ground.pid_file, "--output", ground.directory / path)
        done = ground.finish(ground.run(*words))
        assert done.returncode == 78
        assert done.stderr == f"Cannot write {ground.directory / path}: {why}.\n"
    assert not list(ground.directory.glob("full.*"))


def test_without_the_library(ground: Ground) -> None:
    """The sentence says what to install."""
    ground.write("lib/sitecustomize.py", "import sys\nsys.modules['prometheus_client'] = None\n")
    done = ground.finish(ground.run(SDSUPERVISE, "metrics", "--pid-file", ground.pid_file))
    assert done.returncode == 78
    assert done.stderr.startswith("'sdsupervise metrics' needs prometheus_client, which ")
    assert done.stderr.endswith("install it (Debian: python3-prometheus-client).\n")


def test_one_that_does_not_run(ground: Ground) -> None:
    """It is down, which is an answer; a name that nobody knows is a mistake."""
    text = metrics(ground)
    assert numbers(text) == {("up", (("instance", "service"),)): 0}
    done = ground.finish(ground.run(SDSUPERVISE, "metrics", "no-such-instance"))
    assert done.returncode == 69
    assert "There is no instance 'no-such-instance'" in done.stderr


@pytest.fixture
def hung(ground: Ground) -> Iterator[Path]:
    """The runtime directories of a user: a supervisor that is dead, and one that accepts callers and says nothing."""
    top = ground.directory / "run/sdsupervise"
    for name in ("web", "dead", "hung"):
        (top / name).mkdir(parents=True)
        (top / name).chmod(0o777)
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as silent:
        dead.bind(str(top / "dead/control"))
        silent.bind(str(top / "hung/control"))
        for name in ("dead", "hung"):
            (top / name / "control").chmod(0o666)
        silent.listen()
        yield top


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the other user whose instances these are")
def test_all_that_run(ground: Ground, hung: Path) -> None:
    """Without a NAME: each running instance under its own, and those that do not answer as down."""
    shutil.copytree(installed_package(), ground.library / "sdsupervise", ignore=shutil.ignore_patterns("__pycache__"))
    ground.deploy(1)
    ground.run(
        *("/usr/bin/python3", "current/service.py", "--no-fork", "--no-pid-file"),
        environment={"RUNTIME_DIRECTORY": str(hung / "web")},
        user=65534,
        group=65534,
    )
    ground.expect("serves")
    environment = {"XDG_RUNTIME_DIR": str(hung.parent), "HOME": str(ground.directory)}
    asked = ("/usr/bin/python3", "-m", "sdsupervise", "metrics")
    done = ground.finish(ground.run(*asked, environment=environment, user=65534, group=65534, extra_groups=[]))
    assert done.returncode == 0, done
    found = numbers(done.stdout)
    ups = {dict(labels)["instance"]: up for (name, labels), up in found.items() if name == "up"}
    # This machine may have others, which other tests run beside this one.
    assert {name: ups.get(name) for name in ("web", "dead", "hung")} == {"web": 1, "dead": 0, "hung": 0}
    assert value(found, "generation", instance="web") == 1
    assert "dead: Nobody listens" in done.stderr and "hung: The supervisor" in done.stderr


def lies(sockets: int, workers: int, pid: int) -> dict[str, object]:
    """What a supervisor could answer, and none would."""
    worker = {"pid": pid, "state": "serving", "age": 1.0, "last_ping": None, "status": "", "crashes": 0, "retiring": ""}
    return {
        **{"name": "fake", "version": "1", "state": "serving", "status": "ok", "serves": True, "healthy": True},
        **{"generation": 1, "since": 1.0, "pid": pid, "handover": "exclusive", "argv": []},
        **{"directory": "/", "pid_file": ""},
        **{"code": {"path": "/x", "fingerprint": "y"}, "can_reload": True, "crashes": 0, "spare": None},
        "sockets": [{"name": "a", "address": "b", "from": "c"}] * sockets,
        "pool": {"workers": workers, "serving": workers, "max_workers": workers, "automatic": False},
        "workers": [{"index": index, **worker} for index in range(1, workers + 1)],
        **{"successor": None, "draining": [], "last_reload": None, "counters": {}},
    }


LIAR = """
import os, socket, sys
answer = sys.stdin.buffer.read()
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen()
print("listens", flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(answer)
    connection.close()
"""


@pytest.fixture
def liar(ground: Ground) -> Iterator[Callable[..., None]]:
    """Somebody who is no supervisor answers on the control socket, as this user."""
    started = []

    def start(facts: dict[str, object], user: int) -> None:
        ground.directory.chmod(0o777)
        words = ["/usr/bin/python3", "-c", LIAR, str(ground.control)]
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user, group=user, extra_groups=[]
        )
        started.append(process)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"parameters": facts}).encode() + b"\0")
        process.stdin.close()
        assert process.stdout.readline() == b"listens\n"

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the other user")
def test_an_answer_with_one_pid_for_all(ground: Ground, liar: Callable[..., None]) -> None:
    """Each socket and each process is told once, and none that is another user's than who answers."""
    liar(lies(2, 3000, 1), 61234)
    found = numbers(metrics(ground))
    assert value(found, "workers", state="serving") == 3000
    assert value(found, "socket", socket="a", address="b") == 1
    assert not [name for name, _ in found if "memory" in name or name == "cpu_seconds_total"]


def test_no_process_is_told_twice(ground: Ground, liar: Callable[..., None]) -> None:
    """Of workers with one pid the first is told; of a worker below another, each what is its own."""
    with subprocess.Popen(["/bin/sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as shell:
        try:
            assert shell.stdout is not None
            below = int(shell.stdout.readline())
            facts = lies(1, 4, shell.pid)
            facts["pid"] = os.getpid()
            facts["workers"][3]["pid"] = below  # type: ignore[index]
            liar(facts, os.geteuid())
            found = numbers(metrics(ground))
        finally:
            os.kill(below, signal.SIGKILL)
    told = {dict(labels)["worker"]: size for (name, labels), size in found.items() if name == "resident_memory_bytes"}
    assert sorted(told) == ["", "1", "4"]
    assert told["1"] < 2 * told["4"] + 2**20


@pytest.mark.parametrize("options", [["--json"], ["--full"]])
def test_status_of_one_pid_for_all(ground: Ground, liar: Callable[..., None], options: list[str]) -> None:
    """`status` looks at each process once, however often it is named."""
    liar(lies(1, 8000, 1), os.geteuid())
    done = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file, *options))
    assert done.returncode == 0, done.stderr
