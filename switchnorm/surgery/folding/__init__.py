"""Folding: a copy of a network for inference, in which everything that can be constant is."""
