"""The programs of the system that we ask: systemctl, journalctl. Root looks them up where only root puts programs.

A unit may say Environment=PATH=/srv/app/venv/bin:..., for its service. What lies there is somebody else's to write, and
its ExecReload= is root's.
"""

import os
from collections.abc import Mapping

from ..linux.program_search import search

PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")  # systemd's own


def program(name: str) -> str:
    """What to execute: for root a path in PLACES, else the name, to be found in the PATH of whoever calls."""
    if os.geteuid() != 0:
        return name
    path, may = search(name, PLACES)
    return path if may else f"/usr/bin/{name}"


def search_path() -> Mapping[str, str]:
    """The PATH that such a program gets; nothing where it gets that of whoever calls."""
    return {"PATH": ":".join(PLACES)} if os.geteuid() == 0 else {}
