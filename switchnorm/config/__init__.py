"""What a run may say of itself: the keys of its configuration, their limits, recipes and flags. Needs no torch."""
