"""Input from others: checked, bounded and made printable before use. No I/O."""
