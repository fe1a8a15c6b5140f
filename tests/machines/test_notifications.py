"""What systemd makes of a datagram, for which we are to make the same of it: see tests/support/notifications.py."""

from __future__ import annotations

import pytest

from tests.support.fifos import Fifo
from tests.support.machine import Machine
from tests.support.notifications import CASES, Case

# It says what it is told to, and waits until that has been heard.
PROGRAM = """\
import os, socket, signal, sys
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
address = os.environ["NOTIFY_SOCKET"]
sender.connect("\\0" + address[1:] if address[0] == "@" else address)
sender.send(bytes.fromhex(sys.argv[1]))
ours, theirs = os.pipe()
socket.send_fds(sender, [b"BARRIER=1"], [theirs])
os.close(theirs)
os.read(ours, 1)
with open(sys.argv[2], "w") as fifo:
    fifo.write("said")
signal.pause()
"""
UNIT = """\
[Service]
Type=notify
ExecStart=/usr/bin/python3 /srv/says.py {data} {fifo}
KillSignal=SIGKILL
"""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_as_systemd(machine: Machine, case: Case) -> None:
    """systemd is told the same, and is as ready, and shows the same status."""
    machine.write("/srv/says.py", PROGRAM)
    fifo = Fifo(machine, "says")
    machine.write("/run/systemd/system/says.service", UNIT.format(data=case.data.hex(), fifo=fifo.path))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "--no-block", "says")
    assert fifo.read() == "said"
    shown = machine.show("says.service", "ActiveState", "StatusText")
    machine.run("systemctl", "kill", "-s", "KILL", "says", check=False)
    machine.run("systemctl", "stop", "says")
    machine.run("systemctl", "reset-failed", "says", check=False)
    fifo.close()
    state = "active" if case.ready else "activating"
    assert shown == {"ActiveState": state, "StatusText": case.status}
