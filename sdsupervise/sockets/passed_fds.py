"""The names under which a supervisor passes sockets to its successor; the listener's name follows each."""

LISTENER = "listener:"
OTHER_LANE = "listener in the other lane:"
