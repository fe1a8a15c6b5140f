"""Checks whether an instance would start, without starting it."""
