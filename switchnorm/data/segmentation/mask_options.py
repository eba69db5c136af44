"""What the options of datasets with masks may be."""

from __future__ import annotations

from switchnorm.data.datasets.options import LARGEST_SIDE, check_count
from switchnorm.errors import InputError


def check_multiple(multiple: int, label_stride: int) -> None:
    """Raise `InputError` unless both are at least 1 and labels fit the sides of pictures."""
    check_count("label_stride", label_stride, 1)
    check_count("multiple", multiple, 1)
    if multiple % label_stride:
        nearest = -(-multiple // label_stride) * label_stride
        raise InputError(f"multiple {multiple} is no multiple of label_stride {label_stride}; the nearest is {nearest}")


def check_crop(crop: list[int] | None, multiple: int) -> None:
    """Raise `InputError` unless this is a height and a width that fit, or none."""
    if crop is None:
        return
    if len(crop) != 2 or min(crop) < 1 or max(crop) > LARGEST_SIDE:
        raise InputError(f"crop must be a height and a width of at least 1 and at most {LARGEST_SIDE}, got {crop}")
    if any(side % multiple for side in crop):
        nearest = [max(round(side / multiple), 1) * multiple for side in crop]
        raise InputError(
            f"crop {crop} must be multiples of {multiple}, as option multiple says; the nearest is {nearest}"
        )
