"""An instance whose releases are checked by before_commit, its clients, and who answered whom."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent

import psutil
import pytest

from tests.processes.test_sockets import ask
from tests.support.harness import NOTHING, PYTHON, SDSUPERVISE, Ground, service, status_at
from tests.support.running import Running

REQUESTS = 30  # of one check, to each address

# A check as anybody could write it, from what the environment says; it finds good whoever says that he is.
CHECK = """
import os, socket, sys
from told import report, wait_at_gate

def ask(place):
    if place.startswith("/"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(place)
    else:
        name, _, number = place.rpartition(":")
        client = socket.socket(socket.AF_INET6 if name.startswith("[") else socket.AF_INET)
        low, high = map(int, os.environ["SDSUPERVISE_LOCAL_PORTS"].split("-"))
        for port in range(low, high + 1):
            try:
                client.bind(("", port))
                client.connect((name.strip("[]"), int(number)))
                break
            except OSError:
                pass
    with client:
        return b"".join(iter(lambda: client.recv(4096), b"")).decode()

variables = {name: value for name, value in os.environ.items() if name.startswith("SDSUPERVISE_")}
places = [value for name, value in variables.items() if "LISTEN" in name]
if os.path.exists(f"{os.environ['GROUND']}/gate"):
    wait_at_gate("checks")
said = [ask(place) for place in places for _ in range(int(sys.argv[1]))]
report("checked", answers=",".join(said), **variables)
sys.exit(not all(" good " in answer for answer in said))
"""

# Answers each client with the release, how good that is, its own pid and its number.
ANSWER = """
def answer(listener):
    while True:
        client, _ = listener.accept()
        with client:
            client.sendall(f"{release} {quality} {os.getpid()} {index}".encode())

for listener in listeners:
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
"""
COMMAND = f"""
import threading
index = os.environ["SDSUPERVISE_WORKER_INDEX"]
quality = QUALITY
listeners = [socket.socket(fileno=3 + number) for number in range(int(os.environ["LISTEN_FDS"]))]
{ANSWER}
report("serves", release=release)
notify("READY=1")
wait_to_leave()
"""
CLASS = f"""
def supervised_process(self):
    release, index = self.release, str(self.worker_index)
    quality = QUALITY
    self.ready_to_take_over()
    listeners = self.sockets.values()
{indent(ANSWER, "    ")}
    report("serves", release=self.release)
    wait_for_signal()
"""


class Site:
    """An instance, of a class or of a command, whose releases are checked."""

    def __init__(self, ground: Ground, kind: str, listen: Mapping[str, object]) -> None:
        self.ground, self.kind, self.listen = ground, kind, listen
        self.name = ground.directory.name
        self.run_directory = Path("/run/sdsupervise", self.name)
        self.check = ground.write("check", CHECK)

    def deploy(self, release: int, quality: str = "good", *, checks: int = REQUESTS, **settings: object) -> None:
        """A release, of which each worker says how good it is, by an expression if it is no word; without checks it has
        no before_commit."""
        quality = repr(quality) if quality.isalpha() else quality
        values: dict[str, object] = {"directory": "current", "handover": "overlap", **settings}
        if checks:
            values["before_commit"] = [PYTHON, str(self.check), str(checks)]
        if self.kind == "class":
            self.ground.deploy(release, service(CLASS.replace("QUALITY", quality)))
            values["service"] = "service.py:Service"
        else:
            self.ground.program(release, COMMAND.replace("QUALITY", quality))
            values["command"] = ["./program"]
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        lines += ["[listen]", *(f"{name} = {_inline(address)}" for name, address in self.listen.items())]
        self.ground.write(f"{self.name}.toml", "\n".join(lines) + "\n")

    def start(self, environment: Mapping[str, str | None] = NOTHING, **settings: object) -> Running:
        """Until it serves."""
        file = f"{self.name}.toml"
        running = self.ground.run(SDSUPERVISE, "run", "--config", file, environment=environment, **settings)
        running.expect_line("Generation 1 serves")
        return running

    def reload_process(self) -> Running:
        return self.ground.run(SDSUPERVISE, "reload", self.name)

    def reload(self) -> Running:
        running = self.reload_process()
        running.wait()
        return running

    def status(self) -> Mapping[str, object]:
        return status_at(str(self.run_directory / "control"))

    def answers(self) -> Counter[tuple[str, str]]:
        """Of the check that ran last: how often each release answered it, and each worker."""
        said = self.ground.seen("checked")[-1].said("answers")
        return Counter((answer.split()[0], answer.split()[2]) for answer in said.split(","))

    def stop(self) -> None:
        os.kill(int((self.run_directory / f"{self.name}.pid").read_text()), signal.SIGTERM)
        self.ground.expect_nothing_left()


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {json.dumps(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)


@contextmanager
def load(*addresses: object, threads: int = 2) -> Iterator[Counter[str]]:
    """Clients ask each of these addresses a hundred times a second; who answered them, or "lost"."""
    met: Counter[str] = Counter()
    over = threading.Event()

    def client(address: object) -> None:
        while True:
            try:
                answer = ask(address)
            except OSError:
                answer = []
            met[answer[0] if answer else "lost"] += 1
            if over.wait(threads * 0.01):
                break

    clients = [threading.Thread(target=client, args=(address,)) for address in addresses for _ in range(threads)]
    for thread in clients:
        thread.start()
    try:
        yield met
    finally:
        over.set()
        for thread in clients:
            thread.join()


class Listens:
    """Addresses of one kind, as they are listed and as clients know them."""

    def __init__(self, ground: Ground, kind: str, host: str, port: int) -> None:
        wild = 10000 + os.getpid() % 10000
        path = ground.directory / "app.sock"
        known: Mapping[str, tuple[Mapping[str, object], Sequence[object]]] = {
            "v4": ({"a": f"{host}:{port}"}, [(host, port)]),
            "v6": ({"a": f"[::1]:{wild}"}, [("::1", wild)]),
            "everywhere": ({"a": str(wild)}, [("::1", wild), ("127.0.0.1", wild), (host, wild)]),
            "unix": ({"a": {"address": str(path), "mode": "0640"}}, [str(path)]),
            "several": (
                {"a": f"{host}:{port}", "b": str(path), "c": f"[::1]:{wild}", "d": f"0.0.0.0:{wild + 10000}"},
                [(host, port), str(path), ("::1", wild), (host, wild + 10000)],
            ),
        }
        self.listen, self.addresses = known[kind]


@pytest.fixture(params=["v4", "v6", "everywhere", "unix", "several"])
def listens(request: pytest.FixtureRequest, ground: Ground, host: str, port: int) -> Listens:
    return Listens(ground, request.param, host, port)


@contextmanager
def site_of(ground: Ground, kind: str, listen: Mapping[str, object]) -> Iterator[Site]:
    """A site, and the end of its directory on this host."""
    site = Site(ground, kind, listen)
    try:
        yield site
    finally:
        shutil.rmtree(site.run_directory, ignore_errors=True)


@pytest.fixture(params=["class", "command"])
def site(request: pytest.FixtureRequest, ground: Ground, listens: Listens) -> Iterator[Site]:
    with site_of(ground, request.param, listens.listen) as site:
        yield site


@pytest.fixture
def mixed(ground: Ground, host: str, port: int) -> Iterator[Site]:
    """Of a class, at a TCP address and a path."""
    listens = Listens(ground, "several", host, port)
    with site_of(ground, "class", {name: listens.listen[name] for name in "ab"}) as site:
        yield site


def addresses(site: Site) -> list[object]:
    """Those of a mixed site."""
    text, path = site.listen["a"], site.listen["b"]
    host, _, port = str(text).rpartition(":")
    return [(host, int(port)), path]


def everybody_is_served_by(site: Site, release: int, *, settled: bool = True) -> None:
    """At each address; and when all has settled nothing is left of a generation that is gone."""
    for address in addresses(site):
        assert {ask(address)[0] for _ in range(5)} == {str(release)}
    assert os.path.lexists(f"{site.listen['b']}.next") != settled


def parent_of(pid: int) -> int:
    """Of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def nobody_is_held(site: Site) -> bool:
    """Of all processes that were started here."""
    return psutil.STATUS_STOPPED not in {process.status() for process in site.ground.leftovers()}
