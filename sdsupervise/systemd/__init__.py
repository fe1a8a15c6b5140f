"""Talk with systemd and the journal: one wire, one module."""
