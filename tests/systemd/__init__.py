"""What systemd and we do to each other, on a real systemd, through `systemctl`."""

import pytest

# Their assertions are the tests' own.
pytest.register_assert_rewrite("tests.systemd.trial", "tests.systemd.fifos")
