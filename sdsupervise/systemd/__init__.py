"""Talking with systemd: one wire, one module."""
