"""Datagrams of sd_notify(3), and what systemd makes of them: so do we. Both are tested by this table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Case(NamedTuple):
    """One datagram."""

    data: bytes
    ready: bool
    status: str


CASES: Mapping[str, Case] = {
    "as it should be": Case(b"READY=1\nSTATUS=all is well\n", True, "all is well"),
    "the status in Latin-1": Case(b"STATUS=l\xe4uft\nREADY=1", True, ""),
    "the status in half a letter": Case(b"READY=1\nSTATUS=x\xe2\x82", True, ""),
    "another line in Latin-1": Case(b"X_NAME=\xe4\nSTATUS=ok\nREADY=1", True, "ok"),
    "a NUL at the end": Case(b"READY=1\nSTATUS=ok\0", True, "ok"),
    "a NUL in it": Case(b"READY=1\0STATUS=ok\n", False, ""),
    "two NULs at the end": Case(b"READY=1\0\0", False, ""),
    "lines that end as elsewhere": Case(b"READY=1\r\nSTATUS=ok\r\n", True, "ok"),
    "carriage returns alone": Case(b"STATUS=ok\rREADY=1\r", True, "ok"),
    "a line that is no assignment": Case(b"hello\nREADY=1\nSTATUS=ok", True, "ok"),
    "an assignment to nothing": Case(b"=1\nREADY=1", True, ""),
    "empty lines": Case(b"\n\n\nREADY=1\n\nSTATUS=ok\n\n", True, "ok"),
    "the first of two": Case(b"STATUS=first\nSTATUS=second\nREADY=1", True, "first"),
    "any of two": Case(b"READY=0\nREADY=1", True, ""),
    "not quite": Case(b"READY=1 \nSTATUS=ok", False, "ok"),
    "another case": Case(b"ready=1\nSTATUS=ok", False, "ok"),
    "blanks before it": Case(b" READY=1\nSTATUS=ok", False, "ok"),
    "an equals sign in it": Case(b"STATUS=a=b=c\nREADY=1", True, "a=b=c"),
    "as much as fits": Case(b"READY=1\nX=" + b"x" * (4096 - 10), True, ""),
    "more than fits": Case(b"READY=1\nX=" + b"x" * 4096, False, ""),
    "nothing": Case(b"\n", False, ""),
    "bytes": Case(bytes(range(1, 256)) + b"\nREADY=1", True, ""),
}
