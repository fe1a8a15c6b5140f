"""Processes with the service's code in them end on time, and each cleans up after itself alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service
from tests.support.running import wait_gone

# ------------------------------------------------------------------------------------- what is begun at import

THREAD = """
def poll_for_ever():
    while True:
        time.sleep(1000)
threading.Thread(target=poll_for_ever, name="poller").start()
"""
EXECUTOR = """
from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor(1, "jobs")
executor.submit(time.sleep, 1000)
"""
EXIT_FUNCTION = "import atexit\natexit.register(time.sleep, 1000)"
PROCESS = "import multiprocessing\nmultiprocessing.Process(target=time.sleep, args=(1000,)).start()"
STOPS = "Service\\[\\d+\\]: Generation {} leaves"


def run_as(ground: Ground, how: str) -> tuple[object, ...]:
    if how == "script":
        return (PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    return (SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py:Service")


@pytest.mark.parametrize("how", ["script", "sdsupervise run"])
@pytest.mark.parametrize("begun", [THREAD, EXECUTOR], ids=["a thread", "an executor"])
def test_threads_begun_at_import(ground: Ground, begun: str, how: str) -> None:
    """A warning names them at the start; the supervisor leaves without them, after a reload and after a stop, with its
    own exit status, when it has run its exit functions."""
    before = f"import atexit\natexit.register(report, 'supervisor ends')\n{begun}"
    ground.deploy(1, service(before=before))
    running = ground.run(*run_as(ground, how))
    name = "poller of module (__main__|service)" if begun is THREAD else "jobs_0 of module concurrent.futures.thread"
    running.expect_line(f"Loading the service's code started threads: {name}. They run in the supervisor and do not")
    ground.expect("serves", release=1)
    ground.deploy(2, service(before=before))
    assert ground.reload().returncode == 0
    assert running.wait() == 0
    ended = ground.expect("supervisor ends")
    assert ended.pid == running.pid
    assert running.err.count("started threads") == 2  # one of each generation
    second = int(ground.pid_file.read_text())
    os.kill(second, signal.SIGTERM)
    assert ground.expect("supervisor ends").pid == second
    wait_gone(second)
    ground.expect_nothing_left()


@pytest.mark.parametrize("begun", [EXIT_FUNCTION, PROCESS], ids=["an exit function", "a process"])
def test_exit_functions_that_hang(ground: Ground, begun: str) -> None:
    """A supervisor leaves, and says what it cuts; a process that was begun at import is no worker's business."""
    ground.deploy(1, service("takeover_timeout = 0.4", before=begun))
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGINT)
    ground.expect("serves")  # a worker did not wait for it
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "Exit functions of the service's code have not finished after 0.2 s; not waiting for them" in running.err


def test_threads_of_code_that_cannot_be_loaded(ground: Ground) -> None:
    """They hold up neither a start nor a reload that fails."""
    ground.deploy(1)
    running = ground.run(*run_as(ground, "sdsupervise run"))
    ground.expect("serves")
    ground.deploy(2, service(before=f"{THREAD}\nraise RuntimeError('broken')"))
    failed = ground.reload()
    assert failed.returncode == 1 and "RuntimeError: broken" in failed.stderr
    assert ground.finish(ground.run(SDSUPERVISE, "run", "--no-pid-file", "current/service.py:Service")).returncode == 78
    ground.deploy(3, service("workers = 'x'", before=THREAD))
    assert ground.finish(ground.run(PYTHON, "current/service.py", "--no-fork", "--no-pid-file")).returncode == 78
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


CLEANED = """
import atexit, tempfile, weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
class Thing: pass
thing, supervisor = Thing(), os.getpid()
directory = tempfile.TemporaryDirectory(dir=os.environ["GROUND"])
weakref.finalize(thing, report, "finalized", by="supervisor's")
atexit.register(report, "exits", by="supervisor's")
"""
OF_WORKERS = """
def serve(self):
    self.directory = tempfile.TemporaryDirectory(dir=os.environ["GROUND"])
    self.thing = Thing()
    weakref.finalize(self.thing, report, "finalized", by="worker's")
    atexit.register(report, "exits", by="worker's")
    report("directories", supervisors=directory.name, workers=self.directory.name)
    super().serve()
"""


def test_each_cleans_up_after_itself(ground: Ground) -> None:
    """A leaving worker runs what it has registered itself; what was registered before it was forked runs once, when the
    supervisor leaves: also the removal of temporary directories."""
    ground.deploy(1, service(OF_WORKERS, before=CLEANED))
    running = ground.serving()
    for _ in range(2):
        said = ground.expect("directories")
        assert Path(said.said("supervisors")).is_dir()
        os.kill(said.pid, signal.SIGTERM)
        for word in ("exits", "finalized"):
            assert ground.expect(word, by="worker's").pid == said.pid
        wait_gone(said.pid)
        assert not Path(said.said("workers")).exists()
    last = ground.expect("directories")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    for word in ("exits", "finalized"):
        assert [report.pid for report in ground.seen(word) if report.said("by") == "supervisor's"] == [running.pid]
        assert len(ground.seen(word)) == 4
    assert not Path(last.said("supervisors")).exists() and not Path(last.said("workers")).exists()


def test_a_manager_begun_at_import(ground: Ground) -> None:
    """A process of multiprocessing's that the code begins when it is loaded outlives workers, and serves them."""
    before = "import multiprocessing\nmanager = multiprocessing.Manager()\nshared = manager.list()"
    body = (
        "def serve(self):\n    shared.append(os.getpid())\n    report('shared', pids=len(shared))\n    super().serve()"
    )
    ground.deploy(1, service(body, before=before))
    running = ground.start()
    for number in (1, 2, 3):
        os.kill(ground.expect("shared", pids=number).pid, signal.SIGTERM)
    ground.expect("shared", pids=4)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()
    assert "Traceback" not in running.err


def test_going_to_the_background(ground: Ground) -> None:
    """Whoever was called ends, and leaves exit functions and temporary directories to the daemon."""
    ground.deploy(1, service(OF_WORKERS, before=CLEANED))
    running = ground.run(PYTHON, "current/service.py", "--pid-file", ground.pid_file)
    said = ground.expect("directories")
    assert running.wait() == 0
    assert Path(said.said("supervisors")).is_dir() and not ground.seen("exits")
    daemon = int(ground.pid_file.read_text())
    os.kill(daemon, signal.SIGTERM)
    assert ground.expect("exits", by="supervisor's").pid == daemon
    ground.expect_nothing_left()


def test_exit_functions_in_another_interpreter(ground: Ground) -> None:
    """There the worker itself loads the code: what that registers is the worker's; so it is in the short run that
    describes the class."""
    ground.deploy(1, service("def serve(self):\n    report('mine', directory=directory.name)", before=CLEANED))
    python = ("--python", PYTHON)
    running = ground.run(SDSUPERVISE, "run", "--no-pid-file", *python, "current/service.py:Service")
    described = ground.expect("exits").pid
    said = ground.expect("mine")
    assert ground.expect("exits").pid == said.pid != described
    wait_gone(said.pid)
    assert not Path(said.said("directory")).exists()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()
    assert not list(ground.directory.glob("tmp*"))


# ------------------------------------------------------------------------------------- the threads of a worker

WORKS = """
from told import wait_at_gate
def work(number=0):
    wait_at_gate(f"works {number}")
    report("done", number=number)
"""
OWN_THREAD = "def serve(self):\n    threading.Thread(target=work, name='digger').start()\n    super().serve()"
OWN_EXECUTOR = """
def serve(self):
    with_one = ThreadPoolExecutor(1, "digger")
    for number in range(3):
        with_one.submit(work, number)
    report("submitted")
    super().serve()
"""
TO_THREAD = """
async def supervised_process(self):
    await self.ready_to_take_over()
    report("serves")
    await asyncio.to_thread(work)
async def supervised_shutdown(self):
    report("shutdown")
"""
BEFORE = f"import asyncio\nfrom concurrent.futures import ThreadPoolExecutor\n{WORKS}"


@pytest.mark.parametrize("how", ["script", "sdsupervise run", "another interpreter"])
@pytest.mark.parametrize("body", [OWN_THREAD, OWN_EXECUTOR, TO_THREAD], ids=["a thread", "an executor", "asyncio"])
def test_threads_finish_their_work(ground: Ground, body: str, how: str) -> None:
    """A worker that is told to stop waits for its threads, and for all that an executor has been given."""
    ground.make_gate()
    ground.deploy(1, service(body, before=BEFORE))
    words = run_as(ground, how)
    running = ground.run(*words[:-1], *(("--python", PYTHON) if how == "another interpreter" else ()), words[-1])
    ground.expect("works 0")
    if body is OWN_EXECUTOR:
        ground.expect("submitted")
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    ground.open_gate()
    for number in range(1, 3 if body is OWN_EXECUTOR else 1):
        ground.expect(f"works {number}")
        ground.open_gate()
    ground.expect("done", number=2 if body is OWN_EXECUTOR else 0)
    assert running.wait() == 0
    assert "cuts" not in running.err and "Killing" not in running.err
    ground.expect_nothing_left()


@pytest.mark.parametrize("body", [OWN_THREAD, OWN_EXECUTOR, TO_THREAD], ids=["a thread", "an executor", "asyncio"])
def test_threads_that_do_not_end_are_cut(ground: Ground, body: str) -> None:
    """They are waited for until shortly before the end of stop_timeout; then a line names them, and the worker leaves
    by itself, when it has run its exit functions."""
    ground.make_gate()
    body = f"stop_timeout = 2.0\n{body}"
    ground.deploy(1, service(body, before=f"{BEFORE}\nimport atexit\n"))
    running = ground.start()
    ground.expect("works 0")
    running.signal(signal.SIGTERM)
    running.expect_line(r"Worker \(pid \d+\) ends, and these threads of it have not finished: (digger|asyncio)")
    assert running.wait() == 0
    assert "Killing" not in running.err
    ground.expect_nothing_left()


def test_an_exit_function_of_a_worker_that_hangs(ground: Ground) -> None:
    """It is cut with a line that names it, and the worker leaves by itself."""
    body = "stop_timeout = 2.0\ndef warm_up(self): atexit.register(self.clean_up)"
    ground.deploy(1, service(body + "\ndef clean_up(self): time.sleep(1000)", before="import atexit"))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    running.expect_line(r"ends, and an exit function of it has not finished: clean_up in .*service\.py, line \d+")
    assert running.wait() == 0
    assert "Killing" not in running.err


@pytest.mark.parametrize(
    ("end", "waits"), [("return", True), ("sys.exit(0)", True), ("sys.exit(3)", False), ("raise ValueError", False)]
)
def test_threads_of_a_worker_that_ends_by_itself(ground: Ground, end: str, waits: bool) -> None:
    """One that has come to its end waits for its threads, though it pings no more; one that has failed is replaced at
    once, and says what it cuts."""
    ground.make_gate()
    body = f"""
    worker_timeout = 0.5
    def serve(self):
        self.ping_supervisor()
        threading.Thread(target=work, name="digger").start()
        {end}
    """
    ground.deploy(1, service(body, before=BEFORE))
    running = ground.start()
    worker = ground.expect("serves").pid
    if waits:
        ground.expect("works 0")
        ground.open_gate()
        assert ground.expect("done").pid == worker
        assert "cuts" not in running.err
    else:
        running.expect_line(rf"Worker \(pid {worker}\) ends, and these threads of it have not finished: digger")
    assert ground.expect("serves").pid != worker
