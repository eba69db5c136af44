"""A module for each format of files: what writes one, and what opens one as a function of arrays."""
