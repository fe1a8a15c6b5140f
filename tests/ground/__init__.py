"""The ground the tests stand on: throw-away Debian machines that run a real systemd."""
