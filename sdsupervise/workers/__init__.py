"""Workers from the supervisor's side: start, watch, recycle, stop."""
