"""The output of a reload as plain lines."""

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import IO

from ..input.printable import printable
from ..linux.channel import Sender
from ..linux.patience import readable_within

_JOURNAL_SECONDS = 3.0  # for one search; a journal may have gigabytes
_MOST_BYTES = 256 * 1024  # of its output
_RECENT_SECONDS = 3600.0  # a reload takes no longer


class ReloadOutput:
    """Prints the progress and the verdict of a reload, here as plain lines."""

    def begin(self, name: str) -> None:
        """The reload of this instance begins; "" if it was not named."""

    def progress(self, facts: Mapping[str, object]) -> None:
        """Print an answer that is not the last one."""
        if facts.get("message"):
            print(facts["message"], flush=True)
        ready, workers = facts.get("ready"), facts.get("workers")
        if workers not in (None, 1):
            print(f"workers ready {ready}/{workers}", flush=True)

    def tick(self) -> float:
        """Called while nothing happens. Returns the seconds until the next call."""
        return math.inf

    def end(self) -> None:
        """No more progress will come."""

    def done(self, facts: Mapping[str, object]) -> None:
        """The new code serves."""
        print(success(facts), flush=True)

    def lost(self, sentence: str) -> None:
        """There is no verdict; an error with this sentence follows."""

    def failed(self, error: str, facts: Mapping[str, object], sender: Sender | None) -> None:
        """The reload failed, by the answer of `sender`; an error with the reason follows."""
        traceback = str(facts.get("traceback", "")).strip() or _words_in_journal(facts, sender)
        if traceback:
            print(traceback, file=sys.stderr, flush=True)


def _words_in_journal(facts: Mapping[str, object], sender: Sender | None) -> str:
    """What a command wrote before it died, from the journal, if the supervisor could not read it but we can; else "".

    The answer may name any process: only output of the answering process's user is shown.
    """
    pid = facts.get("silent_worker")
    if not isinstance(pid, int) or isinstance(pid, bool) or sender is None:
        return ""
    import subprocess

    from ..systemd.journal import command_for_words_of, oldest_first
    from ..systemd.own_programs import search_path

    command = command_for_words_of(pid, time.time() - _RECENT_SECONDS, uid=sender.uid)
    environment = {**os.environ, **search_path()}
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        with subprocess.Popen(command, bufsize=0, stdin=null, stdout=pipe, stderr=null, env=environment) as journalctl:
            assert journalctl.stdout is not None
            try:
                said = _read_in_bounds(journalctl.stdout)
            finally:
                journalctl.kill()
    except OSError:
        return ""
    return printable(oldest_first(said.decode(errors="replace"))).strip() if journalctl.returncode <= 0 else ""


def _read_in_bounds(readable: IO[bytes]) -> bytes:
    """At most _MOST_BYTES of output; b"" if the end takes too long."""
    said, end = b"", time.monotonic() + _JOURNAL_SECONDS
    while readable_within(readable.fileno(), max(0.0, end - time.monotonic())):
        more = readable.read(_MOST_BYTES - len(said))
        said += more
        if not more or len(said) >= _MOST_BYTES:
            return said
    return b""


def success(facts: Mapping[str, object]) -> str:
    """The verdict "done" as a sentence."""
    if facts.get("by_signal"):
        return f"RELOADED in {facts.get('seconds', 0):.2f} s. {facts['by_signal']}"
    same = " (same code as before)" if facts.get("same_code") else ""
    sentence = (
        f"RELOADED in {facts.get('seconds', 0):.2f} s: generation {facts.get('generation')} serves "
        f"{facts.get('code')}{same}; main pid {facts.get('old_pid')} -> {facts.get('pid')}"
    )
    if facts.get("not_applied"):
        sentence += f". No change of the unit was applied: {facts['not_applied']}"
    if "drains_at_most" in facts:
        sentence += f". Draining: generation {facts.get('old_generation')} (at most {facts['drains_at_most']:g} s)"
    return sentence
