"""COCO's classes and their numbers: 80 that are in use, of 90.

torchvision's detectors have an output for each number; published ones of Detectron's descent, and this library's, for
each class in use, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from switchnorm.classes import COCO
from switchnorm.weights import detectors
from switchnorm.weights.detectron import is_detectron
from switchnorm.weights.rows import layout_of

#: The largest of their numbers, and the numbers that no class has.
LAST, UNUSED = 90, (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
#: The classes' numbers, from 1.
NUMBERS = tuple(number for number in range(1, LAST + 1) if number not in UNUSED)


def names_of(state: Mapping[str, Tensor]) -> tuple[str, ...] | None:
    """What a detector of others finds that is made for COCO, in the order of its labels; None where it is not.

    Args:
        state: with the names that its authors gave to entries.

    Returns:
        For torchvision's, "N/A" where a number has no class.
    """
    if is_detectron(state):
        rows = state.get("Box_Outs.cls_score.weight")
        return COCO if rows is not None and len(rows) == 1 + len(COCO) else None
    if detectors.is_detector(state) and not detectors.parts_of(state) and detectors.class_count(state) == LAST:
        by_number = dict(zip(NUMBERS, COCO, strict=True))
        return tuple(by_number.get(number, "N/A") for number in range(1, LAST + 1))
    return None


def in_use(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector for all of COCO's numbers as one for the classes in use; any other state as it is.

    Args:
        state: tensors by key.
        wanted: the entries of the network that takes it.
    """
    if not detectors.is_detector(wanted) or detectors.class_count(wanted) != len(COCO):
        return dict(state)
    if not detectors.is_detector(state) or detectors.class_count(state) != LAST:
        return dict(state)
    found = dict(state)
    for key, value in state.items():
        if key not in wanted or value.dim() == 0 or len(value) == len(wanted[key]):
            continue
        layout = layout_of(key, state, LAST, len(wanted[key]), len(COCO))
        if layout is not None:
            kept = [*range(layout.background), *(layout.background + number - 1 for number in NUMBERS)]
            found[key] = layout.flat(layout.by_class(value)[kept])
    return found
