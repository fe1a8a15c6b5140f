"""When a dead worker may start again, and when the verdict is to give up."""

import signal

import pytest

from sdsupervise.core.respawn import Policy, Respawn, starts_again


def crashes(respawn: Respawn, count: int, *, lived: float = 0.0, every: float = 1.0) -> list[float | None]:
    """That many crashes in a row, evenly spaced; what was said to each."""
    return [respawn.worker_crashed(now=number * every, lived=lived) for number in range(count)]


def test_worker_that_ends_by_itself_starts_again_after_the_delay() -> None:
    """As in the original: five seconds, each time, however often."""
    respawn = Respawn(Policy())
    assert [respawn.worker_exited() for _ in range(4)] == [5.0, 5.0, 5.0, 5.0]
    assert respawn.crashes == 0


def test_crash_after_crash_doubles_the_delay_up_to_the_limit() -> None:
    """A service that crashes at its start is tried ever more slowly, but at least every 30 s."""
    assert crashes(Respawn(Policy()), 6) == [5.0, 10.0, 20.0, 30.0, 30.0, 30.0]


def test_delay_never_overflows() -> None:
    """Weeks of crashes are no trouble."""
    assert crashes(Respawn(Policy()), 5000)[-1] == 30.0


@pytest.mark.parametrize(
    ("lived", "expected"), [(59.9, [5.0, 10.0, 20.0]), (60.0, [5.0, 5.0, 5.0]), (3600.0, [5.0, 5.0, 5.0])]
)
def test_worker_that_lived_long_enough_has_paid_for_earlier_crashes(lived: float, expected: list[float]) -> None:
    """Sixty seconds of life and the doubling starts anew."""
    assert crashes(Respawn(Policy()), 3, lived=lived, every=lived) == expected


def test_regular_end_forgives_the_crashes_before_it() -> None:
    """A worker that ended by itself was no crash, and the next crash is the first again."""
    respawn = Respawn(Policy())
    crashes(respawn, 3)
    respawn.worker_exited()
    assert respawn.worker_crashed(now=10.0, lived=0.0) == 5.0


def test_no_limit_means_never_to_give_up() -> None:
    """With crash_limit 0 a worker is always tried again."""
    assert None not in crashes(Respawn(Policy(crash_limit=0)), 1000, every=0.001)


def test_too_many_crashes_within_the_window_are_given_up() -> None:
    """Three crashes within a minute, where three are too many."""
    assert crashes(Respawn(Policy(crash_limit=3)), 3, every=30.0) == [5.0, 10.0, None]


def test_crashes_further_apart_are_not_given_up() -> None:
    """The window slides: of crashes 31 s apart no three fall into a minute."""
    assert None not in crashes(Respawn(Policy(crash_limit=3)), 20, every=31.0)


def test_limit_of_one_gives_up_at_the_first_crash() -> None:
    """The smallest limit."""
    assert crashes(Respawn(Policy(crash_limit=1)), 1) == [None]


def test_forgiven_crashes_do_not_count_towards_giving_up() -> None:
    """A worker that lived long enough clears the window too."""
    respawn = Respawn(Policy(crash_limit=3, respawn_forgiven_after=10.0))
    assert crashes(respawn, 2) == [5.0, 10.0]
    assert respawn.worker_crashed(now=12.0, lived=10.0) == 5.0


def test_crashes_are_counted_for_good() -> None:
    """What status shows is the sum, whatever was forgiven."""
    respawn = Respawn(Policy())
    crashes(respawn, 3, lived=100.0)
    respawn.worker_exited()
    crashes(respawn, 2)
    assert respawn.crashes == 5


def test_without_a_delay_the_first_crash_is_retried_at_once() -> None:
    """delay_before_respawn 0 means what it says, yet a crash loop does not spin."""
    policy = Policy(delay_before_respawn=0.0)
    assert crashes(Respawn(policy), 4) == [0.0, 0.2, 0.4, 0.8]
    assert Respawn(policy).worker_exited() == 0.0
    assert crashes(Respawn(policy), 20)[-1] == 30.0


def test_backoff_limit_below_the_delay_leaves_the_delay() -> None:
    """The limit caps the doubling, not the delay the author chose."""
    assert crashes(Respawn(Policy(delay_before_respawn=40.0)), 3) == [40.0, 40.0, 40.0]


def test_without_delay_and_limit_nothing_is_waited_for() -> None:
    """Both 0: a crash loop at full speed, if that is what somebody asks for."""
    policy = Policy(delay_before_respawn=0.0, respawn_backoff_limit=0.0)
    assert crashes(Respawn(policy), 5) == [0.0] * 5


@pytest.mark.parametrize(
    ("restart", "final"),
    [
        ("always", set()),
        ("on-failure", {0, -signal.SIGHUP, -signal.SIGINT, -signal.SIGPIPE, -signal.SIGTERM}),
        ("on-abnormal", {0, 1, 255, -signal.SIGHUP, -signal.SIGINT, -signal.SIGPIPE, -signal.SIGTERM}),
    ],
)
def test_ends_that_are_final(restart: str, final: set[int]) -> None:
    """The ends after which systemd.service(5) does not start a service again either, by the table at Restart=."""
    ends = {0, 1, 255, *(-number for number in range(1, 32))}
    assert {end for end in ends if not starts_again(end, restart, ())} == final
    assert not starts_again(3, restart, (2, 3)) and starts_again(-3, restart, (2, 3))
