"""Workers as their supervisor sees them: started, watched, recycled, stopped."""
