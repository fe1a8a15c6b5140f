"""The installed package on every systemd it is for, row by row: `python -m tests.packages.matrix` prints the table."""
