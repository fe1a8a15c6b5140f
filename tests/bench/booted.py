"""`systemctl reload` on a booted machine, beside starting Python there with the service's imports."""

import sys
from collections.abc import Iterable
from pathlib import Path

from tests.support.machine import Machine

from .effort import Effort
from .ground import can_boot
from .measure import Figures, Row

TEMPLATE = Path(__file__).parents[2] / "units" / "sdsupervise@.service"

_SERVICE = """\
import os, signal, time
from sdsupervise import SupervisedDaemon

class Trivial(SupervisedDaemon):
    can_do_hot_reload = True

    def supervised_process(self):
        self.ready_to_take_over()
        with open("/srv/bench/released.new", "w") as file:
            file.write(str(time.monotonic_ns()))
        os.rename("/srv/bench/released.new", "/srv/bench/released")
        while True:
            signal.pause()

    def supervised_shutdown(self):
        pass

if os.environ.get("BENCH_ONLY_IMPORT"):
    print(time.monotonic_ns())
"""

# In the machine, in turns: the milliseconds to the new worker's release, to the command's end, and of Python's start.
_MEASURE = """\
import os, subprocess, sys, time
for _ in range(int(sys.argv[1])):
    asked = time.monotonic_ns()
    subprocess.run(["systemctl", "reload", "sdsupervise@bench"], check=True)
    ended = time.monotonic_ns()
    with open("/srv/bench/released") as file:
        released = int(file.read())
    started = time.monotonic_ns()
    python = ["/usr/bin/python3", "/srv/bench/service.py"]
    said = subprocess.run(python, env={**os.environ, "BENCH_ONLY_IMPORT": "1"}, check=True, capture_output=True).stdout
    print(*((time - since) / 1e6 for time, since in ((released, asked), (ended, asked), (int(said), started))))
"""
_MOST_SECONDS = 300


def reload_by_systemd(effort: Effort) -> Iterable[Row]:
    """systemctl reload of an instance, to its new worker released, and to the end of the command."""
    if not can_boot():
        print("left out: what needs to boot a systemd", file=sys.stderr)
        return
    with Machine() as machine:
        machine.write("/run/systemd/system/sdsupervise@.service", TEMPLATE.read_text())
        machine.write("/etc/sdsupervise/bench.toml", 'directory = "/srv/bench"\nservice = "service.py:Trivial"\n')
        machine.write("/srv/bench/service.py", _SERVICE)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "sdsupervise@bench")
        said = machine.run("python3", "-c", _MEASURE, str(effort.reloads), timeout=_MOST_SECONDS).stdout
        machine.run("systemctl", "stop", "sdsupervise@bench")
    columns = zip(*(map(float, line.split()) for line in said.splitlines()), strict=True)
    released, ended, baseline = (Figures(tuple(column)) for column in columns)
    name = "starting Python with its imports there"
    yield Row("systemctl reload, to its new worker released", "ms", released, name, baseline, limit=1.6)
    yield Row("systemctl reload, to the end of the command", "ms", ended, name, baseline, limit=1.6)
