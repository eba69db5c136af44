"""Which sizes of images a network is traced with, and checked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from switchnorm.errors import InputError
from switchnorm.text import first_line

#: By which numbers a network may want height and width to be divisible.
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)

#: The smallest size that is tried, over that of the first.
SMALLEST = 0.8

_Found = TypeVar("_Found")
#: (N, C, H, W)
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tried(Generic[_Found]):
    """Shapes of images that a network takes.

    Args:
        shapes: three, the first of which it is traced with. Where a dimension stays open the others differ in it, and
            the traced height and width are no equal numbers, so that nothing takes one for the other.
        found: what the network returned for each.
        step: of which height and width are multiples, where they are open.
    """

    shapes: tuple[Shape, ...]
    found: tuple[_Found, ...]
    step: int


def try_sizes(
    run: Callable[[Shape], _Found], channels: int, size: tuple[int, int], dynamic: Sequence[str], multiple: int = 1
) -> Tried[_Found]:
    """Run a network at three sizes, with the smallest step between sizes that it takes.

    Args:
        run: the network, on some images of a shape.
        channels: C.
        size: height and width that it is meant for.
        dynamic: which of "batch", "height" and "width" stay open.
        multiple: of which sizes are multiples anyway.

    Raises:
        InputError: the network fails at its size, or at every other.
    """
    steps = [step for step in STEPS if step % multiple == 0] or [multiple]
    if not {"height", "width"} & set(dynamic):
        steps = [1]
    failure: Exception | None = None
    for step in steps:
        shapes = _shapes(channels, size, dynamic, step)
        try:
            return Tried(shapes, tuple(run(shape) for shape in shapes), step)
        except InputError:
            raise
        except Exception as error:  # the network's own, of any kind
            failure = failure or error
    reason = "" if failure is None else first_line(failure)
    if steps == [1]:
        raise InputError(f"the network fails on images of {size[0]}x{size[1]}: {reason}; name the size that it takes")
    raise InputError(
        f"the network fails on images of other sizes than {size[0]}x{size[1]}: {reason}; leave height and width out of "
        "dynamic"
    )


def _shapes(channels: int, size: tuple[int, int], dynamic: Sequence[str], step: int) -> tuple[Shape, ...]:
    batches = (2, 1, 3) if "batch" in dynamic else (1, 1, 1)
    sides = []
    for place, name in enumerate(("height", "width")):
        side = size[place]
        # Odd multiples show most of what rounds; the width is another than the height.
        smaller, larger = (_odd(round(share * side), step) for share in (SMALLEST, 1.3))
        around = [_odd(side, step) + 2 * step * place, smaller, larger]
        sides.append(around if name in dynamic else [side] * 3)
    return tuple((batch, channels, h, w) for batch, h, w in zip(batches, *sides, strict=True))


def _odd(side: int, step: int) -> int:
    """An odd multiple of the step, near the side and not below it."""
    parts = -(-side // step)
    return step * (parts + 1 - parts % 2)
