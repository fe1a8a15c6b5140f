"""One reload: predecessor and successor, what crosses between them, and the verdict."""
