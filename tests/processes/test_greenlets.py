"""Services whose code gevent or eventlet has patched: supervisor and worker do with them what they do with others."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.harness import Ground
from tests.support.running import LIMIT_SECONDS

# The library's line comes before or after the first import of ours.
GEVENT = (
    "from gevent import monkey; monkey.patch_all({})\nimport gevent, gevent.pool, gevent.pywsgi\nspawn = gevent.spawn"
)
EVENTLET = "import eventlet; eventlet.monkey_patch({})\nimport eventlet.wsgi\nspawn = eventlet.spawn"
FIRST, AFTER = "{library}\n{ours}\n", "{ours}\n{library}\n"
OURS = "from probe import *\nfrom probe import GROUND\nimport os, signal, sys, threading, time"
SERVE = {
    GEVENT: """
        self.server = gevent.pywsgi.WSGIServer(self.sockets["http"], answer, log=None, spawn=gevent.pool.Pool(9))
        self.server.serve_forever()
""",
    EVENTLET: """
        self.pool = eventlet.GreenPool(9)
        eventlet.wsgi.server(self.sockets["http"], answer, custom_pool=self.pool, log_output=False)
""",
}
FINISH = {GEVENT: "self.server.stop(timeout=20)", EVENTLET: "self.pool.waitall()"}
SERVICE = """
def answer(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        report("began")
        os.mkfifo(GROUND + "/slow")
        fifo = os.open(GROUND + "/slow", os.O_RDONLY | os.O_NONBLOCK)
        while not os.read(fifo, 1):
            time.sleep(0.01)
    if environ["PATH_INFO"] == "/hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, ())
        while True:
            pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{os.getpid()}} {release}".encode()]

class Service(SupervisedDaemon):
    can_do_hot_reload = True
    worker_timeout = 1.0
    delay_before_respawn = 0.05
    listen = {{"http": GROUND + "/http"}}

    def supervised_process(self):
        for _ in range(1000):
            self.ping_supervisor()
        spawn(self.ping)
        self.ready_to_take_over()
        be_the_only_one()
        report("serves", release={release})
{serve}
    def ping(self):
        while True:
            self.ping_supervisor()
            time.sleep(0.1)

    def supervised_shutdown(self):
        {finish}
        report("shutdown", release={release})

if __name__ == "__main__":
    sys.exit(Service().run())
"""


def deploy(ground: Ground, release: int, *, library: str, order: str, options: str = "", text: str = SERVICE) -> None:
    """A release whose code is patched before or after it imports us."""
    top = order.format(library=library.format(options), ours=OURS)
    body = text.format(release=release, serve=SERVE[library], finish=FINISH[library])
    ground.write(f"releases/{release}/service.py", top + body)
    ground.point_to(release)


def get(ground: Ground, path: str = "/") -> str:
    """What the service answers: its worker's pid and its release."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_SECONDS)
        client.connect(str(ground.directory / "http"))
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return client.makefile().read().rpartition("\n")[2]


@pytest.mark.parametrize("options", ["", "select=False"])
@pytest.mark.parametrize("order", [FIRST, AFTER], ids=["patched first", "patched after"])
@pytest.mark.parametrize("library", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_a_life(ground: Ground, library: str, order: str, options: str) -> None:
    """A web server starts, pings a thousand times, is replaced when it crashes and when it hangs, is reloaded, finishes
    what it began when it is told to stop, and stops."""
    deploy(ground, 1, library=library, order=order, options=options)
    running = ground.start(environment={"PYTHONWARNINGS": "ignore"})
    served = ground.expect("serves", release=1)
    assert get(ground) == f"{served.pid} 1"

    os.kill(served.pid, signal.SIGKILL)
    running.expect_line(rf"Worker \(pid {served.pid}\) was killed by SIGKILL")
    served = ground.expect("serves", release=1)
    assert get(ground) == f"{served.pid} 1"

    with ThreadPoolExecutor() as clients:
        hung = clients.submit(get, ground, "/hang")
        running.expect_line(rf"Worker \(pid {served.pid}\) sent no ping for 1 s, ending it")
        assert hung.result() == ""
        served = ground.expect("serves", release=1)

        slow = clients.submit(get, ground, "/slow")
        ground.expect("began")
        deploy(ground, 2, library=library, order=order, options=options)
        reload = ground.reload_process()
        running.expect_line("Generation 2 is ready, generation 1 stops")
        (ground.directory / "slow").write_text("x")
        assert slow.result() == f"{served.pid} 1"
        ground.expect("shutdown", release=1)
        assert reload.wait() == 0

    served = ground.expect("serves", release=2)
    assert get(ground) == f"{served.pid} 2"
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect("shutdown", release=2)
    assert running.wait() == 0
    ground.expect_nothing_left()
    assert "A bug in" not in running.err and "Traceback" not in running.err


WAITING = """
class Service(SupervisedDaemon):
    can_do_hot_reload = True

    def supervised_process(self):
        spawn(self.work)
        spawn(self.work_until_it_drains)
        self.ready_to_take_over()
        be_the_only_one()
        report("serves", release={release})
        self.draining.wait()
        report("returns", release={release})

    def work(self):
        while True:
            time.sleep(0.05)
            self.ping_supervisor()
            report("works", release={release})

    def work_until_it_drains(self):
        self.draining.wait(0.1)
        report("waited", release={release})

    def supervised_shutdown(self):
        report("shutting down", release={release})
        os.mkfifo(GROUND + f"/go{release}")
        fifo = os.open(GROUND + "/go{release}", os.O_RDONLY | os.O_NONBLOCK)
        while not os.read(fifo, 1):
            time.sleep(0.01)

if __name__ == "__main__":
    sys.exit(Service().run())
"""


@pytest.mark.parametrize("library", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_other_greenlets_run_meanwhile(ground: Ground, library: str) -> None:
    """They run, and ping, while their worker waits for its turn, for its end, and in its shutdown."""
    deploy(ground, 1, library=library, order=FIRST, text=WAITING)
    running = ground.start(environment={"PYTHONWARNINGS": "ignore"})
    ground.expect("serves", release=1)
    ground.expect("waited", release=1)
    deploy(ground, 2, library=library, order=FIRST, text=WAITING)
    reload = ground.reload_process()
    ground.expect("returns", release=1)
    ground.expect("shutting down", release=1)
    for _ in range(3):
        ground.expect("works", release=2)  # which waits for its turn
    (ground.directory / "go1").write_text("x")
    assert reload.wait() == 0
    ground.expect("serves", release=2)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect("returns", release=2)
    ground.expect("shutting down", release=2)
    (ground.directory / "go2").write_text("x")
    assert running.wait() == 0
    ground.expect_nothing_left()


CHILDREN_AND_THREADS = """
import subprocess
subprocess.run(["true"], check=True)  # has gevent install a handler for SIGCHLD

class Service(SupervisedDaemon):
    stop_timeout = {stop_timeout}

    def supervised_process(self):
        subprocess.run(["true"], check=True)
        report("child of the worker ended")
        threading.Thread(target=self.work, name="digger").start()
        self.ready_to_take_over()
        report("serves", release={release})
        while True:
            time.sleep(1000)

    def work(self):
        os.mkfifo(GROUND + "/go")
        fifo = os.open(GROUND + "/go", os.O_RDONLY | os.O_NONBLOCK)
        report("works")
        while not os.read(fifo, 1):
            time.sleep(0.01)
        report("worked")

    def supervised_shutdown(self):
        report("shutting down")

if __name__ == "__main__":
    sys.exit(Service().run())
"""


@pytest.mark.parametrize("ends", [True, False], ids=["which end", "which do not end"])
@pytest.mark.parametrize("library", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_children_and_threads(ground: Ground, library: str, ends: bool) -> None:
    """A worker can wait for a child, also where the code did so when it was loaded; threads, which are greenlets, are
    waited for at its stop, within stop_timeout."""
    text = CHILDREN_AND_THREADS.replace("{stop_timeout}", "20.0" if ends else "2.0")
    deploy(ground, 1, library=library, order=FIRST, text=text)
    running = ground.start(environment={"PYTHONWARNINGS": "ignore"})
    ground.expect("child of the worker ended")
    ground.expect("works")
    ground.expect("serves")
    running.signal(signal.SIGTERM)
    ground.expect("shutting down")
    if ends:
        (ground.directory / "go").write_text("x")
        ground.expect("worked")
    assert running.wait() == 0
    assert ("these threads of it have not finished: digger" in running.err) == (not ends)
    assert "started threads" not in running.err and "Killing" not in running.err
    ground.expect_nothing_left()
