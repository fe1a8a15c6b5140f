"""A celery worker with a real broker is reloaded while tasks come in: none is lost, and each release waits its turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.load.environment import PLACE
from tests.load.ground import EXAMPLE, Program, Service, calling, serving
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(programs=True)

CELERY = Program("celery", "tasks.py")
RELOADS = 2
LIMIT_SECONDS = 60

# Sends a task every so often, and writes `first RESULT` when that is one it has not had before; when its standard input
# has ended it waits for the results that are missing, and writes how many tasks there were.
CALLER = """\
import select, sys, threading
sys.path.insert(0, "/run/load")
from tasks import work

def wait_for_results():
    seen = set()
    for result in iter(sent.get, None):
        if (text := result.get(timeout={limit})) not in seen:
            seen.add(text)
            print("first", text, flush=True)

import queue
sent, number = queue.SimpleQueue(), 0
waiting = threading.Thread(target=wait_for_results)
waiting.start()
while not select.select([sys.stdin], [], [], 0.05)[0]:
    sent.put(work.delay(number, 0.05))
    number += 1
sent.put(None)
waiting.join()
print(number)
"""


class Note(NamedTuple):
    """What a task said of itself."""

    number: int
    what: str
    release: int


@pytest.fixture
def broker(machine: Machine) -> Iterator[None]:
    """Debian's redis, without a file."""
    server = ("redis-server", "--save", "", "--supervised", "systemd")
    machine.run("systemd-run", "--unit=broker", "--property=Type=notify", "--collect", *server)
    yield
    machine.run("systemctl", "stop", "broker")
    machine.remove("/var/lib/private/celery")


def reload_while_tasks_come(machine: Machine, service: Service) -> tuple[int, list[Note]]:
    """How many tasks were sent, and what they noted, in the order it happened."""
    machine.write("/run/load/tasks.py", (EXAMPLE / "tasks.py").read_text())
    with calling(machine, f"{PLACE}/bin/python3", "-c", CALLER.format(limit=LIMIT_SECONDS)) as caller:
        for release in range(2, RELOADS + 2):
            service.deploy(release)
            service.systemctl("reload")
            caller.wait_for(f"release {release}")
        sent = int(caller.end())
    words = [line.split() for line in machine.read("/var/lib/private/celery/notes").splitlines()]
    return sent, [Note(int(number), what, int(release)) for number, what, _, _, release in words]


def assert_none_was_lost(sent: int, notes: list[Note]) -> None:
    """Each task has been done, and every release did some; one that was done when its worker stopped may be done again,
    which is how celery delivers."""
    assert {note.number for note in notes if note.what == "ends"} == set(range(sent))
    assert {note.release for note in notes} == set(range(1, RELOADS + 2))
    for what in ("begins", "ends"):
        again = [note for note in notes if note.what == what]
        assert len({(note.number, note.release) for note in again}) == len(again)
    assert len([note for note in notes if note.what == "begins"]) <= sent + 2 * RELOADS


@pytest.mark.usefixtures("broker")
def test_exclusive(machine: Machine) -> None:
    """No task is lost, and none begins in a new release before the last of the old one's has ended."""
    with serving(machine, CELERY) as service:
        sent, notes = reload_while_tasks_come(machine, service)
    assert_none_was_lost(sent, notes)
    releases = [note.release for note in notes]
    assert releases == sorted(releases)


@pytest.mark.usefixtures("broker")
def test_overlap(machine: Machine) -> None:
    """No task is lost where the old release still works while the new one begins."""
    unit = CELERY.unit.replace("--handover exclusive", "--handover overlap")
    assert unit != CELERY.unit
    with serving(machine, CELERY, unit) as service:
        sent, notes = reload_while_tasks_come(machine, service)
    assert_none_was_lost(sent, notes)


@pytest.mark.usefixtures("broker")
def test_broken_code_never_gets_its_turn(machine: Machine) -> None:
    """A release that cannot be imported fails while the old one works; the old one is not even stopped."""
    with serving(machine, CELERY) as service:
        main_pid = service.main_pid
        machine.write("/srv/hello/releases/2/tasks.py", "import requsts\n")
        machine.symlink("releases/2", "/srv/hello/current")
        assert machine.run("systemctl", "reload", "celery", check=False).returncode == 1
        assert service.main_pid == main_pid
        machine.symlink("releases/1", "/srv/hello/current")
