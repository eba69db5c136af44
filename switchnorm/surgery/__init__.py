"""Surgery: changing a model that somebody else wrote."""

from switchnorm.surgery.batch import ghost, sync
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
    "FusePlan",
    "LayerImportance",
    "Left",
    "SwitchPlan",
    "SwitchWarning",
    "average_statistics",
    "batch_statistics",
    "calibrate",
    "evaluation_mode",
    "freeze",
    "freeze_statistics",
    "fuse",
    "ghost",
    "harden",
    "importance",
    "plan_fuse",
    "plan_switch",
    "set_momentum",
    "set_radius",
    "switch",
    "sync",
    "unharden",
]
