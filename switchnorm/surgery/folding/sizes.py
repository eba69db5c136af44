"""How large the maps are that each normalization sees, of pictures of one size."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.surgery.kinds import is_norm
from switchnorm.surgery.replica import replicated
from switchnorm.surgery.tracing import FAILURES, words


class MapSize(NamedTuple):
    """The size of the maps that a layer sees, of pictures of one size.

    Attributes:
        maps: (height, width) of these.
        pictures: (height, width) of those.
    """

    maps: tuple[int, ...]
    pictures: tuple[int, int]

    @property
    def places(self) -> int:
        """Of a map."""
        return math.prod(self.maps)

    def check(self, x: Tensor) -> None:
        """Raise `InputError` where the maps of x (N, C, *S) have another number of places than those of constants."""
        # A trace is of its example's size; what it calls sizes are tensors.
        if not torch.jit.is_tracing() and math.prod(x.shape[2:]) != self.places:
            own, found, pictures = (" x ".join(map(str, each)) for each in (self.maps, x.shape[2:], self.pictures))
            raise InputError(
                f"this network was folded for pictures of {pictures}, of which maps of {own} come here, and not of "
                f"{found}; give it that size, or fold the network with another size, or with none for any"
            )


def check_size(size: Any) -> tuple[int, int] | None:
    """(height, width) of a size as users give it: one number for both, or two.

    Raises:
        InputError: anything else.
    """
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) and not isinstance(size, bool) else size
    if isinstance(sides, Sequence) and not isinstance(sides, str) and len(sides) == 2:
        height, width = sides
        if all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (height, width)):
            return height, width
    raise InputError(f"size {size!r} is no size of pictures; give one number, such as 224, or (height, width)")


class Maps(NamedTuple):
    """What normalizations see of pictures of one size.

    Attributes:
        sizes: of the maps, of those that always see the same.
        values: how many numbers each is given of one picture; None where that is not known.
        unknown: why nothing is known, where the network cannot be run so.
    """

    sizes: dict[nn.Module, MapSize]
    values: dict[nn.Module, int] | None
    unknown: str | None


def map_sizes(model: nn.Module, size: tuple[int, int]) -> Maps:
    """The maps that normalizations see, in evaluation mode.

    Args:
        model: any network of pictures; nothing of it is run on values.
        size: (height, width).
    """
    channels = next((conv.in_channels for conv in model.modules() if isinstance(conv, _ConvNd)), 3)
    seen: defaultdict[nn.Module, list[tuple[int, ...]]] = defaultdict(list)
    try:
        with replicated(model) as replica, torch.device("meta"), torch.no_grad():
            for module in model.modules():
                twin = replica.twin(module)
                if twin is not None:
                    vars(twin)["training"] = False
                    if is_norm(module):
                        twin.register_forward_pre_hook(partial(_see, seen[module]))
            replica.root(torch.empty(_BATCH, channels, *size))
    except FAILURES as error:
        return Maps({}, None, words(error))
    sides = {norm: {shape[2:] for shape in shapes} for norm, shapes in seen.items()}
    sizes = {norm: MapSize(found.pop(), size) for norm, found in sides.items() if len(found) == 1}
    return Maps(sizes, {norm: sum(map(math.prod, shapes)) // _BATCH for norm, shapes in seen.items()}, None)


_BATCH = 2


def _see(found: list[tuple[int, ...]], twin: nn.Module, args: Any) -> None:
    found.append(tuple(args[0].shape) if args and isinstance(args[0], Tensor) else ())
