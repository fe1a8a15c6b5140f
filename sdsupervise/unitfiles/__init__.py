"""Unit files: read them, check them, and put a unit under a supervisor."""
