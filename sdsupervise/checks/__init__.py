"""Will it start? Asked without starting it."""
