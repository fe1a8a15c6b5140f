"""What systemd and we do to each other, on a real systemd, through `systemctl`."""
