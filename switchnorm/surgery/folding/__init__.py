"""Folding a network for inference: what of its normalizations is constant goes into the layers beside them.

weights.py (layers that take constants up), reach.py, calls.py and neighbours.py (which may), forms.py (what is left of
a normalization: one of modules.py, or tables.py), places.py (what comes in its place), sizes.py (of maps), plan.py (the
report, and carrying it out), fold.py (the decisions).
"""

from switchnorm.surgery.folding.fold import fold, plan_fold
from switchnorm.surgery.folding.plan import FoldPlan

__all__ = ["FoldPlan", "fold", "plan_fold"]
