"""Folding a network for inference: what of its normalizations is constant goes into the layers beside them."""
