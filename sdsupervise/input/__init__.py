"""Input from other processes: checked, bounded and made printable before use. No I/O."""
