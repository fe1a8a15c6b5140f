"""Unit files: what is in them, what does not work with a supervisor, how to put a unit under one."""
