"""Pure functions on tensors: moments, rules, projections, weight standardization, normalization and its kernels."""

from switchnorm.ops.kernels.choice import KernelFallback, kernel
from switchnorm.ops.moments import moments
from switchnorm.ops.normalize import Normalized, normalize
from switchnorm.ops.simplex import sparsemax, sparsestmax
from switchnorm.ops.weight import standardize_weight

__all__ = [
    "KernelFallback",
    "Normalized",
    "kernel",
    "moments",
    "normalize",
    "sparsemax",
    "sparsestmax",
    "standardize_weight",
]
