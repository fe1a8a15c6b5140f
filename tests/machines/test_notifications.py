"""What systemd makes of a datagram, for which we are to make the same of it: see tests/support/notifications.py.

And what it makes of `sdsupervise ready`, where it is the only supervisor.
"""

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


SCRIPT = """\
#!/bin/sh
sdsupervise ready
echo "ready $?" >/exchange/says
read go </exchange/go
sdsupervise ping
echo "ping $?" >/exchange/says
exec sleep infinity
"""


@pytest.mark.parametrize("more", ["", "User=nobody\nNotifyAccess=all\n"], ids=["root", "nobody"])
def test_ready_and_ping_without_a_supervisor_of_ours(machine: Machine, more: str) -> None:
    """Under systemd alone they do as systemd-notify(1): a script needs no other line with a supervisor than without."""
    machine.write("/srv/says", SCRIPT)
    machine.run("chmod", "755", "/srv/says")
    says, go = Fifo(machine, "says"), Fifo(machine, "go")
    machine.write(
        "/run/systemd/system/says.service", f"[Service]\nType=notify\nWatchdogSec=1h\n{more}ExecStart=/srv/says\n"
    )
    machine.run("systemctl", "daemon-reload")
    began = machine.run("journalctl", "--show-cursor", "--lines=0", "--quiet").stdout.split("cursor: ")[1].strip()
    machine.run("systemctl", "start", "says")
    assert says.read() == "ready 0\n"
    before = int(machine.show("says.service", "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"])
    go.write("\n")
    assert says.read() == "ping 0\n"
    assert int(machine.show("says.service", "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]) > before
    said = machine.run("journalctl", f"--after-cursor={began}", "--unit=says", "--output=cat").stdout
    machine.run("systemctl", "stop", "says")
    for fifo in (says, go):
        fifo.close()
    assert "Started" in said
    for complaint in ("auxiliary", "only permitted", "supervisor"):
        assert complaint not in said, said
