"""Reloads, however they are asked for."""

from __future__ import annotations

import signal

from tests.service.harness import Ground


def test_reload_by_signal(ground: Ground) -> None:
    """SIGUSR2 starts the same script's code of today; the old supervisor leaves with status 0."""
    service = ground.serving()
    ground.deploy(2)
    service.signal(signal.SIGUSR2)
    ground.expect("shutdown", release=1)
    ground.expect("serves", release=2)
    assert service.wait() == 0


def test_reload_by_control_socket(ground: Ground) -> None:
    """`sdsupervise reload` ends with 0 once the new code serves, and says which code that is."""
    service = ground.serving()
    ground.deploy(2)
    done = ground.reload()
    assert done.returncode == 0, done
    assert "RELOADED" in done.stdout and "releases/2" in done.stdout
    ground.expect("serves", release=2)
    assert service.wait() == 0
