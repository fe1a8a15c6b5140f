"""What happened to a unit, as PID 1 itself logs it at level debug: every notification and every change of state.

Nothing that systemd did in between two looks is missed, as it would be by asking for the state now and then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.journal import Entry

_NOTIFICATION = re.compile(r"Got notification message from PID (\d+)(?: \(|: )(.*?)\)?$", re.DOTALL)
_CHANGE = re.compile(r": Changed ([\w-]+) -> ([\w-]+)$")
_BETWEEN_ASSIGNMENTS = re.compile(r", (?=[A-Z_]+=)")

# Words of ours, of systemd's and of Python's that no story should contain, whatever happened in it.
_NEVER = (
    "which is not our child",  # an alien main pid: systemd will not notice its death
    "Please report this",  # an event that the table calls impossible
    "Exception ignored",
)


class Notification(NamedTuple):
    """One datagram that systemd took."""

    sender: int
    fields: dict[str, str]


class Story(NamedTuple):
    """A stretch of a unit's journal."""

    entries: Sequence[Entry]

    @property
    def notifications(self) -> list[Notification]:
        """What the unit's processes told systemd, in order."""
        found = (_NOTIFICATION.search(entry.get("MESSAGE", "")) for entry in self.entries)
        return [Notification(int(match[1]), _assignments(match[2])) for match in found if match]

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The service's changes of state, in systemd's finer words: running, reload, stop-sigterm, …"""
        # From 253 on a reload that we announced ourselves has a name of its own.
        messages = [entry.get("MESSAGE", "").replace("reload-notify", "reload") for entry in self.entries]
        found = (_CHANGE.search(message) for message in messages)
        return [(match[1], match[2]) for match in found if match and match[1] != match[2]]

    @property
    def states(self) -> set[str]:
        """Every state the unit was in, except the one it was in before."""
        return {after for _, after in self.changes}

    def told(self, name: str) -> list[str]:
        """The values of one assignment, in order."""
        return [said.fields[name] for said in self.notifications if name in said.fields]

    def says(self, text: str) -> bool:
        """Some entry contains it."""
        return any(text in entry.get("MESSAGE", "") for entry in self.entries)

    @property
    def own(self) -> list[Entry]:
        """What the unit's own processes said."""
        return [entry for entry in self.entries if entry.get("_PID") != "1"]

    def strangers(self) -> list[str]:
        """Complaints of systemd's about who notified it, or whom it was told to take for the main process."""
        complaints = (
            "reception only permitted",
            "does not exist or is a zombie",
            "Cannot find unit for notify message",
        )
        messages = [entry.get("MESSAGE", "") for entry in self.entries]
        return [message for message in messages if any(text in message for text in complaints)]

    def complaints(self) -> list[str]:
        """What contradicts a promise that holds in every story; nothing, if all is well."""
        messages = [entry.get("MESSAGE", "") for entry in self.entries]
        return [message for message in messages if any(word in message for word in _NEVER)] + [
            *self._reloads_left_open(),
            *self._main_pids_after_stop(),
        ]

    def _reloads_left_open(self) -> list[str]:
        """RELOADING=1 is followed by READY=1, STOPPING=1 or the end of the process that said it."""
        reloading = False
        for entry in self.entries:
            message = entry.get("MESSAGE", "")
            match = _NOTIFICATION.search(message)
            told = _assignments(match[2]) if match else {}
            if "RELOADING" in told:
                reloading = True
            elif "READY" in told or "STOPPING" in told or "Main process exited" in message:
                reloading = False
        return ["RELOADING=1 was never followed by READY=1"] if reloading else []

    def _main_pids_after_stop(self) -> list[str]:
        stopping, complaints = False, []
        for said in self.notifications:
            if "MAINPID" in said.fields and stopping:
                complaints.append(f"MAINPID={said.fields['MAINPID']} was sent after STOPPING=1")
            stopping = "STOPPING" in said.fields or (stopping and "READY" not in said.fields)
        return complaints


def _assignments(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in _BETWEEN_ASSIGNMENTS.split(text))
    return {name: value for name, _, value in pairs}
