"""Listening sockets that outlive workers: opened, kept, handed over, shared by two generations."""
