"""What `status` and `metrics` know of processes: as much as psutil says, and not what a process says of itself."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sdsupervise.cli.process_usage import Processes, may_see_shares, started_at
from sdsupervise.linux import processes

_PR_SET_NAME = 15
_OTHER_UID = 12345


def test_usage_of_a_tree() -> None:
    """A process is counted with what is below it, without what was left out; each of them once."""
    script = "import subprocess; subprocess.Popen(['cat']); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        seen = Processes()
        both, alone = seen.usage(parent.pid), seen.usage(parent.pid, apart_from={child.pid})
        below = seen.usage(child.pid)
        parent.communicate()
    assert both is not None and alone is not None and below is not None
    assert (both.pids, alone.pids, below.pids) == ((parent.pid, child.pid), (parent.pid,), (child.pid,))
    assert both.resident == alone.resident + below.resident
    assert both.proportional is not None and both.proportional < both.resident
    assert both.age == alone.age >= below.age > 0
    assert Processes().usage(parent.pid) is None


def test_a_process_that_calls_itself_another_users() -> None:
    """A uid is the kernel's, whatever the name of a process looks like. psutil believes the name."""

    def pretend() -> int:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"Uid:\t{_OTHER_UID}\t1\t1".encode(), 0, 0, 0)
        os.write(writer, b"\n")
        os.read(stay, 1)
        return 0

    reader, writer = os.pipe()
    stay, go = os.pipe()
    child = processes.fork(pretend)
    try:
        os.read(reader, 1)
        assert Processes(uid=_OTHER_UID).usage(child.pid) is None
        assert Processes(uid=0).usage(child.pid) is not None
    finally:
        os.write(go, b"\n")
        os.waitpid(child.pid, 0)
        for fd in (reader, writer, stay, go, child.pidfd):
            os.close(fd)


def test_a_start_is_known_to_the_hundredth_of_a_second(tmp_path: Path) -> None:
    """What is written before a process starts is not newer than it. psutil knows the boot in whole seconds only."""
    written = tmp_path / "unit"
    written.write_text("")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        started = started_at(process.pid)
    assert started is not None
    assert written.stat().st_ctime - 2 / os.sysconf("SC_CLK_TCK") < started <= time.time()
    assert started_at(process.pid) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_where_a_sandbox_hides_the_machine() -> None:
    """With ProcSubset=pid nothing is known of any process, and nothing is written."""
    script = f"""
mount -t proc -o subset=pid proc /proc
exec {sys.executable} - <<'END'
import os
from sdsupervise.cli.process_usage import Processes, may_see_shares, started_at
print(Processes().usage(os.getpid()), started_at(os.getpid()), may_see_shares(os.getpid()))
END
"""
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("None None False\n", "")
    assert may_see_shares(os.getpid())
