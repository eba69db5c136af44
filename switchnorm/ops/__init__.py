"""Pure functions on tensors: moments, rules, projections, weight standardization, normalization."""

from switchnorm.ops.moments import moments
from switchnorm.ops.normalize import Normalized, normalize
from switchnorm.ops.simplex import sparsemax, sparsestmax
from switchnorm.ops.weight import standardize_weight

__all__ = ["Normalized", "moments", "normalize", "sparsemax", "sparsestmax", "standardize_weight"]
