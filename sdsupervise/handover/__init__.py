"""One reload: the other supervisor, what crosses to it, and the verdict."""
