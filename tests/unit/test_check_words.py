"""What the words of before_commit show: whether the old code may answer it."""

from __future__ import annotations

import pytest

from sdsupervise.settings.check_words import may_ask_old_code
from sdsupervise.settings.settings import check_settings

LISTEN = {"http": "127.0.0.1:8000", "six": "[::1]:8001", "any": "8002", "admin": "/run/app/admin.sock"}


def remark(*words: str, handover: str = "overlap") -> str:
    return "; ".join(
        may_ask_old_code(
            check_settings("", {"listen": LISTEN, "handover": handover, "before_commit": ["curl", "-fsS", *words]})
        )
        or ()
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["http://127.0.0.1:8000/"], "port 8000 (listen 'http')"),
        (["http://localhost:8000"], "port 8000 (listen 'http')"),
        (["http://[::1]:8001/health"], "port 8001 (listen 'six')"),
        (["sh", "-c", "curl -fsS http://127.0.0.1:8002/health | grep good"], "port 8002 (listen 'any')"),
        (["--unix-socket", "/run/app/admin.sock", "http://localhost/"], "/run/app/admin.sock (listen 'admin')"),
        (["--unix-socket=/run/app/admin.sock"], "/run/app/admin.sock (listen 'admin')"),
        (
            ["--local-port", "61000-61999", "http://127.0.0.1:8000/", "--unix-socket", "/run/app/admin.sock"],
            "/run/app/admin.sock (listen 'admin')",
        ),
    ],
)
def test_words_that_reach_the_old_code(words: list[str], named: str) -> None:
    """Each names what both generations have; in an exclusive service only one is there."""
    assert remark(*words).startswith(f"before_commit names {named}, where the old code ")
    assert remark(*words, handover="exclusive") == ""


@pytest.mark.parametrize(
    "words",
    [
        ["--local-port", "61000-61999", "http://127.0.0.1:8000/"],
        ["--local-port", "61500", "http://127.0.0.1:8000/"],
        ["sh", "-c", "curl --local-port $SDSUPERVISE_LOCAL_PORTS http://127.0.0.1:8000/"],
        ["http://127.0.0.1:80001/"],
        ["http://127.0.0.1:9000/"],
        ["--unix-socket", "/run/app/admin.sock.next", "http://localhost/"],
        ["--unix-socket", "/run/app/admin.socket", "http://localhost/"],
        ["./check", "8000"],
    ],
)
def test_words_that_say_no_such_thing(words: list[str]) -> None:
    """They reach the new code alone, or somebody else, or nobody can tell."""
    assert remark(*words) == ""
