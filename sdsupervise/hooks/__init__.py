"""Commands that a supervisor runs beside its workers: before_commit, notify_command, the search in the journal."""
