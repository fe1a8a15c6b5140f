"""Reads files that an instance names, in a child process with the instance's rights, memory and time limits.

A process that answers on a control socket may name any path. root must not open a file for it that it cannot open
itself, nor wait for a file of it that never answers.
"""

import os
import resource
import select
import signal
from collections.abc import Callable

from ..errors import HandoverError
from ..input.printable import one_line
from ..linux import process_title, processes, signals
from ..linux.channel import Sender

_SECONDS = 30.0  # for one look
_MOST_BYTES = 16 * 1024  # of its result
_MOST_MEMORY_BYTES = 2**30


def look_as(sender: Sender | None, look: Callable[[], str], *, limit_seconds: float = _SECONDS) -> str:
    """The result of `look`, a phrase, called in a child process with the rights of `sender`.

    Raises HandoverError if that fails, or takes too long.
    """
    reader, writer = os.pipe()
    child = processes.fork(lambda: _be_looker(sender, look, writer))
    os.close(writer)
    try:
        said = b""
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        # The child writes once, at its end.
        if poller.poll(limit_seconds * 1000):
            said = os.read(reader, _MOST_BYTES)
    finally:
        signals.send(child.pidfd, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(child.pidfd)
        os.close(reader)
    if not said:
        raise HandoverError("Cannot check what it reports about its code.")
    return one_line(said[1:].decode(errors="replace"))


def _be_looker(sender: Sender | None, look: Callable[[], str], writer: int) -> int:
    process_title.show("check")
    os.setsid()  # without a terminal: a path may be a symlink to it
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    if os.geteuid() == 0 and sender is not None and sender.uid != 0:
        os.setgroups(_groups_of(sender))
        os.setresgid(sender.gid, sender.gid, sender.gid)
        os.setresuid(sender.uid, sender.uid, sender.uid)
    try:
        os.write(writer, b":" + look().encode(errors="surrogateescape")[: _MOST_BYTES - 1])
    except Exception:  # not printed: its text may come from any user
        return 1
    return 0


def _groups_of(sender: Sender) -> list[int]:
    """The supplementary groups of a process, if it still has the same uid."""
    try:
        with open(f"/proc/{sender.pid}/status") as status:
            facts = dict(line.split(":", 1) for line in status)
        return [int(group) for group in facts["Groups"].split()] if f"\t{sender.uid}\t" in facts["Uid"] else []
    except (OSError, KeyError):
        return []
