"""An exhaustive walk through everything two supervisors can do to each other; `python -m tests.model` runs it."""
