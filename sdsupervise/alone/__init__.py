"""A directory for `sys.path` that holds only this package, and no other package installed beside it."""
