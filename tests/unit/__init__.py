"""Single modules, within this process: no service is started, and no systemd is booted."""
