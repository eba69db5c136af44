"""How a batch is parted into ghost batches: equal parts, or parts of any sizes."""

from __future__ import annotations

from typing import TypeAlias

from switchnorm.errors import InputError

#: Samples of each of equal parts, the last of which may be smaller; the sizes of consecutive parts, some of which may
#: be empty; or None for one part.
Ghost: TypeAlias = "int | tuple[int, ...] | None"


def parts(ghost: Ghost, samples: int) -> Ghost:
    """The same partition of so many samples in the simplest way; empty parts, which have no statistics, are left out.

    Equal parts become a number, for which kernels are faster, and one part None.

    Raises:
        InputError: sizes of parts that do not add up to the samples.
    """
    if not isinstance(ghost, tuple):
        return ghost
    if sum(ghost) != samples:
        raise InputError(
            f"ghost batches of {_listed(ghost)} samples are {sum(ghost)} together, and the input has {samples}; give "
            "sizes that add up to it"
        )
    sizes = tuple(size for size in ghost if size > 0)
    if len(sizes) < 2:
        return None
    first, *others, last = sizes
    return first if last <= first and all(size == first for size in others) else sizes


def smallest_part(ghost: Ghost, samples: int) -> int:
    """The number of samples of the smallest part that is not empty; 0 where there are no samples."""
    ghost = parts(ghost, samples)
    if isinstance(ghost, tuple):
        return min(ghost)
    return samples if ghost is None else samples % ghost or min(samples, ghost)


def filled_share(ghost: Ghost) -> float:
    """How many of the parts hold samples, as a share of all parts; 1 where sizes are not given one by one."""
    return sum(size > 0 for size in ghost) / len(ghost) if isinstance(ghost, tuple) else 1.0


def in_words(ghost: Ghost) -> str:
    """The end of a sentence about a batch: " in ghost batches of 2"; nothing for one part."""
    if ghost is None:
        return ""
    return f" in ghost batches of {_listed(ghost) if isinstance(ghost, tuple) else ghost}"


def _listed(sizes: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, sizes[:8]))
    return f"{shown}, ..." if len(sizes) > 8 else shown
