"""Who serves: the decisions, as data and pure functions. Nothing here does I/O or reads the clock."""
