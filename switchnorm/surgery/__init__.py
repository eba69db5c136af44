"""Surgery: changing a model that somebody else wrote."""

from switchnorm.surgery.batch import ghost, sync
from switchnorm.surgery.folding import FoldPlan, fold, plan_fold
from switchnorm.surgery.freeze import freeze
from switchnorm.surgery.fuse import FusePlan, fuse, plan_fuse
from switchnorm.surgery.importance import LayerImportance, harden, importance, set_radius, unharden
from switchnorm.surgery.over_processes import average_statistics
from switchnorm.surgery.plan import Change, Left, SwitchPlan, SwitchWarning
from switchnorm.surgery.statistics import (
    CalibrationWarning,
    batch_statistics,
    calibrate,
    evaluation_mode,
    freeze_statistics,
    set_momentum,
)
from switchnorm.surgery.switch import plan_switch, switch

__all__ = [
    "CalibrationWarning",
    "Change",
    "FoldPlan",
    "FusePlan",
    "LayerImportance",
    "Left",
    "SwitchPlan",
    "SwitchWarning",
    "average_statistics",
    "batch_statistics",
    "calibrate",
    "evaluation_mode",
    "fold",
    "freeze",
    "freeze_statistics",
    "fuse",
    "ghost",
    "harden",
    "importance",
    "plan_fold",
    "plan_fuse",
    "plan_switch",
    "set_momentum",
    "set_radius",
    "switch",
    "sync",
    "unharden",
]
