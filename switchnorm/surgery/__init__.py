"""Surgery: changing a model that somebody else wrote."""

from switchnorm.surgery.batch import calibrate, freeze_statistics, ghost, set_momentum, sync
from switchnorm.surgery.fuse import FusePlan, fuse, plan_fuse
from switchnorm.surgery.importance import LayerImportance, harden, importance, set_radius
from switchnorm.surgery.plan import Change, Left, SwitchPlan
from switchnorm.surgery.switch import plan_switch, switch

__all__ = [
    "Change",
    "FusePlan",
    "LayerImportance",
    "Left",
    "SwitchPlan",
    "calibrate",
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
]
