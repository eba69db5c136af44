"""The normalizers, a file for each: its layers, and at the end its registration."""

from switchnorm.layers.norms import batch, bcn, group, ibn, sparse, switch

__all__ = ["batch", "bcn", "group", "ibn", "sparse", "switch"]
