"""`make demo`: the main job in front of the user's eyes; every sentence it prints has been checked."""
