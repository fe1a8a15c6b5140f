"""The system's programs that we execute: systemctl, journalctl. For root they come from the system's directories only.

A unit may set Environment=PATH=/srv/app/venv/bin:... for its service. Another user may be able to write into that
directory, while its ExecReload= runs as root.
"""

import os
from collections.abc import Mapping

from ..linux.program_search import search

# systemd's default search path
PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def program(name: str) -> str:
    """Return what to execute: for root a path in PLACES, else the name, which is found in the caller's PATH."""
    if os.geteuid() != 0:
        return name
    path, may = search(name, PLACES)
    return path if may else f"/usr/bin/{name}"


def search_path() -> Mapping[str, str]:
    """Return PATH for such a program, as an environment; empty if it inherits the caller's PATH."""
    return {"PATH": ":".join(PLACES)} if os.geteuid() == 0 else {}
