"""What goes wrong by plan and by chance: processes that are killed, faults at random, and nonsense on every surface."""
