"""How large the maps are that each normalization sees, of pictures of one size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.surgery.kinds import is_norm
from switchnorm.surgery.replica import replicated
from switchnorm.surgery.tracing import FAILURES, words


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


def map_sizes(model: nn.Module, size: tuple[int, int]) -> tuple[dict[nn.Module, tuple[int, ...]], str | None]:
    """The sizes of the maps that normalizations see, in evaluation mode, each of those that always see the same.

    Args:
        model: any network of pictures; nothing of it is run on values.
        size: (height, width).

    Returns:
        The sizes; and why there are none, where the network cannot be run so.
    """
    channels = next((conv.in_channels for conv in model.modules() if isinstance(conv, _ConvNd)), 3)
    seen: defaultdict[nn.Module, set[tuple[int, ...]]] = defaultdict(set)
    try:
        with replicated(model) as replica, torch.device("meta"), torch.no_grad():
            for module in model.modules():
                twin = replica.twin(module)
                if twin is not None:
                    vars(twin)["training"] = False
                    if is_norm(module):
                        twin.register_forward_pre_hook(partial(_see, seen[module]))
            replica.root(torch.empty(2, channels, *size))
    except FAILURES as error:
        return {}, words(error)
    return {norm: found.pop() for norm, found in seen.items() if len(found) == 1}, None


def _see(found: set[tuple[int, ...]], twin: nn.Module, args: Any) -> None:
    found.add(tuple(args[0].shape[2:]) if args and isinstance(args[0], Tensor) else ())
