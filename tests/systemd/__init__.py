"""What systemd and we do to each other, on a real systemd, through `systemctl`."""

import pytest

# Its assertions are the tests' own.
pytest.register_assert_rewrite("tests.systemd.trial")
