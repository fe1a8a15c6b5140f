"""The supervisor: what happens becomes an event of the takeover table, and it performs the effects."""
