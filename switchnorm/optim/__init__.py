"""Optimizers of any loop: how parameters are trained, and how sparse layers come to their choices."""

from switchnorm.optim.parameter_groups import parameter_groups
from switchnorm.optim.sparse_schedule import SparseSchedule

__all__ = ["SparseSchedule", "parameter_groups"]
