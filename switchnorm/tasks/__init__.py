"""What a batch means: a folder for each task, and its registration.

Importing this registers the tasks of this library and needs no torch; what trains is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from switchnorm.config.task_spec import Claim, Flag, Metric, TaskSpec, find_task, register, tasks
from switchnorm.tasks.classification.spec import CLASSIFICATION
from switchnorm.tasks.detection.spec import DETECTION
from switchnorm.tasks.segmentation.spec import SEGMENTATION

#: The tasks of this library.
OWN = (CLASSIFICATION, SEGMENTATION, DETECTION)

for _spec in OWN:
    register(_spec)

_HOME_OF = {
    "Task": "switchnorm.tasks.task",
    "Classification": "switchnorm.tasks.classification.task",
    "Segmentation": "switchnorm.tasks.segmentation.task",
    "mixing": "switchnorm.tasks.classification.mix",
}

__all__ = ["Claim", "Flag", "Metric", "TaskSpec", "find_task", "register", "tasks", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
