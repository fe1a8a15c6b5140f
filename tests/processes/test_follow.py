"""Follow: whoever is about to have systemd reload a service hears from its supervisor how that goes."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.processes.test_control import ROOT_ONLY, STRANGER, call_as
from tests.processes.test_varlink import Caller, assert_conforms
from tests.support.descriptions import CONTROL
from tests.support.harness import Ground

RELOAD = "io.sdsupervise.Reload"
FOLLOW = "io.sdsupervise.Follow"
MOST = 8


def follower(ground: Ground) -> Caller:
    """One who has had the first answer, which comes before there is a reload."""
    caller = Caller(ground)
    answer = caller.call(FOLLOW, more=True)
    assert answer["continues"] is True
    assert_conforms(answer, "Follow")
    return caller


@pytest.mark.parametrize("code", ["", "1/0"], ids=["good", "broken"])
def test_the_same_answers(ground: Ground, code: str) -> None:
    """Each hears what the one hears who has asked, but for the order to spawn; and each reload has its own."""
    ground.serving()
    followers = [follower(ground) for _ in range(2)]
    ground.deploy(2, code)
    caller = Caller(ground)
    first = caller.call(RELOAD, more=True)
    answers = [first, *caller.answers()]
    for one in followers:
        heard = list(one.answers())
        assert heard == answers
        for answer in heard[:-1] if code else heard:
            assert_conforms(answer, "Follow")
    if code:
        assert answers[-1]["error"] == "io.sdsupervise.ReloadFailed"
        assert list(CONTROL.complaints(CONTROL.errors["ReloadFailed"], answers[-1]["parameters"])) == []
    else:
        assert "error" not in answers[-1]


def test_a_reload_by_signal(ground: Ground) -> None:
    """What ExecReload= asks for by SIGUSR2 is followed as well, where nobody else hears of it."""
    running = ground.serving()
    caller = follower(ground)
    ground.deploy(2)
    running.signal(signal.SIGUSR2)
    *_, last = caller.answers()
    assert isinstance(last["parameters"], dict) and last["parameters"]["verdict"] == "done"


@ROOT_ONLY
def test_who_may(ground: Ground) -> None:
    """Those who may reload; another user is refused."""
    ground.serving()
    reply = call_as(ground, STRANGER, "Follow")
    assert reply["error"] == "org.varlink.service.PermissionDenied"
    assert reply["parameters"] == {"reason": f"Only root and uid {os.geteuid()} may reload."}


def test_where_a_reload_is_refused(ground: Ground) -> None:
    """So is this, and counted as that."""
    ground.serving()
    ground.deploy(2, "import signal; signal.pause()")
    first = Caller(ground)
    assert first.call(RELOAD, more=True)["continues"] is True
    caller = Caller(ground)
    answer = caller.call(FOLLOW, more=True)
    assert answer == {
        "error": "io.sdsupervise.ReloadRefused",
        "parameters": {"reason": "A reload is already in progress.", "stops": False},
    }
    counters = ground.status()["counters"]
    assert isinstance(counters, dict) and counters["reloads"] == {"refused": 1}


def test_it_expects_more(ground: Ground) -> None:
    """Who wants one answer would get none that says anything."""
    ground.serving()
    assert Caller(ground).call(FOLLOW) == {"error": "org.varlink.service.ExpectedMore", "parameters": {}}


def test_one_who_has_gone(ground: Ground) -> None:
    """Before the reload, or in the middle of it: the others get their verdict."""
    ground.serving()
    gone, goes, stays = (follower(ground) for _ in range(3))
    gone.close()
    ground.deploy(2)
    caller = Caller(ground)
    caller.call(RELOAD, more=True)
    next(goes.answers())
    goes.close()
    for one in caller, stays:
        *_, last = one.answers()
        assert "error" not in last
    assert ground.status()["generation"] == 2


def test_one_who_does_not_read(ground: Ground) -> None:
    """It holds up nobody, whatever it leaves unread."""
    ground.serving()
    for release in range(2, 5):
        follower(ground)
        ground.deploy(release, "raise ValueError('x' * 10_000)" if release == 3 else "")
        assert ground.reload().returncode == (1 if release == 3 else 0)
    assert ground.status()["generation"] == 3


def test_many(ground: Ground) -> None:
    """So many are kept; of more, those are hung up on that have waited for longest. A reload hears none of it."""
    ground.serving()
    callers = [follower(ground) for _ in range(MOST + 2)]
    for caller in callers[:2]:
        with contextlib.suppress(AssertionError):
            next(caller.answers())
            pytest.fail("it is not at its end")
    ground.deploy(2)
    assert ground.reload().returncode == 0
    for caller in callers[2:]:
        *_, last = caller.answers()
        assert "error" not in last
