"""The paths that a normalization can take: the choice, what a fast path is, and the fast paths."""
