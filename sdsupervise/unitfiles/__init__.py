"""Unit files: what stands in them, what of it does not work with a supervisor, and how to put a unit under one."""
