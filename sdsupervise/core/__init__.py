"""Who serves? The decisions, as data and pure functions. Nothing here does I/O or asks the time."""
