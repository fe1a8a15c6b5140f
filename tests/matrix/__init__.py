"""The installed package on every systemd it is for, row by row: `python -m tests.matrix` prints the table."""
