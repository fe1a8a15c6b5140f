"""What others say, as it may be used: checked, bounded and printable. No input or output."""
