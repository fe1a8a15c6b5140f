"""What the tests are made with: harnesses for processes, and throw-away Debian machines that run a real systemd."""
