"""What the options of datasets with masks may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchnorm.data.datasets.options import check_between
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset


def check_options(data: SegmentationDataset) -> None:
    """Raise `InputError` for an option that is out of range, or that does not fit another."""
    for name, value, choices in (("split", data.split, ("val", "test")), ("colors", data.colors, ("rgb", "published"))):
        if value not in choices:
            raise InputError(f"{name} must be {choices[0]!r} or {choices[1]!r}, got {value!r}")
    if data.longest is not None:
        check_between("longest", data.longest, 1)
    for name, sides in (("short_sides", data.short_sides), ("test_sides", data.test_sides)):
        _check_sides(name, sides, data.longest)
    check_between("color_jitter", data.color_jitter, 0, 1)
    check_between("label_stride", data.label_stride, 1)
    check_between("multiple", data.multiple, 1)
    if data.multiple % data.label_stride:
        nearest = -(-data.multiple // data.label_stride) * data.label_stride
        raise InputError(
            f"multiple {data.multiple} is no multiple of label_stride {data.label_stride}; the nearest is {nearest}"
        )
    if data.scale is not None and not (len(data.scale) == 2 and 0 < data.scale[0] <= data.scale[1]):
        raise InputError(f"scale must be two factors above 0, the smaller one first, [0.5, 2.0], got {data.scale}")
    if data.crop is not None:
        _check_crop(data.crop, data.multiple)
    if data.workers is not None:
        check_between("workers", data.workers, 0)


def _check_sides(name: str, sides: list[int], longest: int | None) -> None:
    for side in sides:
        check_between(name, side, 1)
        if longest is not None and side > longest:
            raise InputError(f"{name} has {side}, which longest {longest} never allows; the nearest longest is {side}")


def _check_crop(crop: list[int], multiple: int) -> None:
    if len(crop) != 2 or min(crop) < 1:
        raise InputError(f"crop must be a height and a width of at least 1, [360, 480], got {crop}")
    if any(side % multiple for side in crop):
        nearest = [max(round(side / multiple), 1) * multiple for side in crop]
        raise InputError(
            f"crop {crop} must be multiples of {multiple}, as option multiple says; the nearest is {nearest}"
        )
