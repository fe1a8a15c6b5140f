"""Unit files: read, wrapped, looked over; and those that are shipped."""
