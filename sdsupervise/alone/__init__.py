"""A directory for `sys.path` in which there is this package, and nothing of what is installed beside it."""
