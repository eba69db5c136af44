"""Finding and reading files: which there are, which label each has, and what is in them."""
