"""The supervisor: it turns what happens into events of the takeover table, and performs the table's effects."""
