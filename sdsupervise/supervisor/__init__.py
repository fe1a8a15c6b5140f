"""The shell around the takeover table: what happens becomes an event, effects are performed."""
