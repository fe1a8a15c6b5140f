"""What may be set: every setting, its default, unit and limits. No I/O."""
