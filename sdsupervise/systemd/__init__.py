"""What we need of systemd and its journal: one module for each way to talk to them."""
