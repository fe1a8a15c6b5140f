"""Names of the sockets that a supervisor passes to its successor, each followed by the listener's own name."""

LISTENER = "listener:"
OTHER_LANE = "listener in the other lane:"
