"""What several datasets' options have in common."""

from __future__ import annotations

from switchnorm.errors import InputError

#: RandAugment's magnitudes run from 0 to this.
STRONGEST = 30


def check_between(name: str, value: float, least: float, most: float | None = None) -> None:
    """Raise `InputError` unless least <= value <= most; without `most` there is no upper end."""
    if most is None and not value >= least:
        raise InputError(f"{name} must be at least {least}, got {value}")
    if most is not None and not least <= value <= most:
        raise InputError(f"{name} must be between {least} and {most}, got {value}")


def check_choice(name: str, value: str, choices: tuple[str, str]) -> None:
    """Raise `InputError` for a value that is neither of two."""
    if value not in choices:
        raise InputError(f"{name} must be {choices[0]!r} or {choices[1]!r}, got {value!r}")


def check_random_options(augment: bool, rand_augment: int, magnitude: int, random_erasing: float) -> None:
    """Check the options that datasets of photographs share; `InputError` for one out of range, or without effect."""
    check_between("rand_augment", rand_augment, 0)
    check_between("magnitude", magnitude, 0, STRONGEST)
    check_between("random_erasing", random_erasing, 0, 1)
    for name, value in (("rand_augment", rand_augment), ("random_erasing", random_erasing)):
        if value and not augment:
            raise InputError(f"{name} {value} has no effect with augment false; set augment to true or {name} to 0")
