"""What several datasets' options have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from switchnorm.data.interpolation import INTERPOLATIONS
from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:
    from switchnorm.models.pictures import Pictures

#: Means and deviations are below this; greater ones are for pixels in 0..255.
_LARGEST = 2.0
#: Of pictures as they are trained on, in pixels; a larger batch of even one fits no device.
LARGEST_SIDE = 2**15
_MOST_WORKERS = 1024
#: RandAugment's magnitudes run from 0 to this.
STRONGEST = 30


def check_between(name: str, value: float, least: float, most: float) -> None:
    """Raise `InputError` unless least <= value <= most."""
    if not least <= value <= most:
        raise InputError(f"{name} must be between {least} and {most}, got {value}")


def check_count(name: str, value: int, least: int, most: int = LARGEST_SIDE) -> None:
    """Raise `InputError` for a count that is too small or too large; by default one of pixels."""
    if value < least:
        raise InputError(f"{name} must be at least {least}, got {value}")
    if value > most:
        raise InputError(f"{name} must be at most {most}, got {value}")


def check_workers(workers: int | None) -> None:
    """Raise `InputError` for more processes that read pictures than a machine takes, or fewer than none."""
    if workers is not None:
        check_count("workers", workers, 0, _MOST_WORKERS)


def check_choice(name: str, value: str, choices: tuple[str, str]) -> None:
    """Raise `InputError` for a value that is neither of two."""
    if value not in choices:
        raise InputError(f"{name} must be {choices[0]!r} or {choices[1]!r}, got {value!r}")


def check_colors(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> None:
    """Raise `InputError` for a mean or a deviation that is not one number per channel, for pixels in [0, 1]."""
    for name, values in (("mean", mean), ("std", std)):
        if values is None:
            continue
        if len(values) != channels:
            raise InputError(f"{name} needs one number per channel, {channels}, got {len(values)}")
        for value in values:
            if not math.isfinite(value) or (name == "std" and value <= 0):
                raise InputError(f"{name} must be {'positive' if name == 'std' else 'finite'} numbers, got {value}")
            if abs(value) > _LARGEST:
                raise InputError(
                    f"{name} is for pixels in [0, 1], got {value}; the nearest in 0..255 is {value / 255:.4g}"
                )


def open_options(wanted: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the wanted options that are null or absent as the options are."""
    return {name: value for name, value in wanted.items() if options.get(name) is None}


def colors_of(pictures: Pictures, options: Mapping[str, Any]) -> dict[str, Any]:
    """The mean and deviation that a network expects, as options; none for pictures of other bands than its own."""
    if options.get("bands") is not None:
        return {}
    return {"mean": list(pictures.mean), "std": list(pictures.std)}


def check_interpolation(interpolation: str | None) -> None:
    """Raise `InputError` for a way to resize that is unknown."""
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", interpolation, INTERPOLATIONS)


def check_scale(scale: list[float] | None) -> None:
    """Raise `InputError` unless these are two factors in order, or none."""
    if scale is not None and not (len(scale) == 2 and 0.01 <= scale[0] <= scale[1] <= 100):
        raise InputError(f"scale must be two factors above 0, the smaller one first, from 0.01 to 100, got {scale}")


def check_sides(name: str, sides: list[int], longest: int | None) -> None:
    """Raise `InputError` for a short side below 1, or longer than the longest side may be."""
    for side in sides:
        check_count(name, side, 1)
        if longest is not None and side > longest:
            raise InputError(f"{name} has {side}, which longest {longest} never allows; the nearest longest is {side}")


def check_random_options(augment: bool, rand_augment: int, magnitude: int, random_erasing: float) -> None:
    """Check the options that datasets of photographs share; `InputError` for one out of range, or without effect."""
    check_count("rand_augment", rand_augment, 0, 100)
    check_between("magnitude", magnitude, 0, STRONGEST)
    check_between("random_erasing", random_erasing, 0, 1)
    for name, value in (("rand_augment", rand_augment), ("random_erasing", random_erasing)):
        if value and not augment:
            raise InputError(f"{name} {value} has no effect with augment false; set augment to true or {name} to 0")
