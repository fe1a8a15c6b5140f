"""What we need of systemd and its journal: one module for each interface."""
