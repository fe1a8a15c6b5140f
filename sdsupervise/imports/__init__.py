"""Files of other supervisors: what they say, as instances."""
