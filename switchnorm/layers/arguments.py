"""What the arguments of a layer may be, when it is made and when an attribute is set later; and what is no model."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from numbers import Real
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers.regions import Regions
from switchnorm.ops.partition import Ghost

#: What the attribute `ghost` of a layer may be.
GhostLike: TypeAlias = "Ghost | Regions"


class Checked(nn.Module):
    """A layer whose numbers are checked whenever they are set; what a pickle holds is taken as it is.

    Raises:
        InputError: on setting channels, `eps`, `momentum`, `ghost`, `sync` or a flag to what a layer cannot have.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        check = _CHECKS.get(name)
        super().__setattr__(name, value if check is None else check(value))


def check_whole(value: Any, least: int, words: str) -> int:
    """Return `value` if it is a whole number from `least` on; raise `InputError` otherwise, with `words` for "{}"."""
    number = None
    if not isinstance(value, (bool, torch.Tensor)):
        with suppress(TypeError):
            number = operator.index(value)
    if number is not None and number >= least:
        return number
    near = _real(plain(value))
    nearest = least if near is None or not least <= near < math.inf else round(near)
    raise InputError(f"{words.format(repr(value))} are impossible; the nearest valid size is {nearest}")


def check_channels(channels: int) -> int:
    """Return `channels` if it is a whole number from 1 on; raise `InputError` otherwise."""
    return check_whole(channels, 1, "{} channels")


def check_eps(eps: float) -> float:
    """Return `eps` if it is a finite number above 0; raise `InputError` otherwise.

    PyTorch takes any: with 0, a map that does not vary becomes nan, and below 0 many others do.
    """
    if _real(eps) is None or not 0 < eps < math.inf:
        raise InputError(f"eps {eps!r} is no finite number above 0; PyTorch's is 1e-05")
    return eps


def check_momentum(momentum: float | None) -> float | None:
    """Return `momentum`, None or a number in [0, 1], as a float; raise `InputError` for anything else."""
    if momentum is None:
        return None
    number = _real(momentum)
    if number is None:
        raise InputError(f"momentum {momentum!r} is no number in [0, 1]; PyTorch's is 0.1, and None averages")
    if not 0 <= number <= 1:
        nearest = 0 if number < 0 else 1
        raise InputError(f"momentum {momentum!r} is outside [0, 1]; the nearest valid number is {nearest}")
    return number


def check_ghost(ghost: Any, sync: object = False) -> GhostLike:
    """Return `ghost` if it is a partition of batches and not together with `sync`; raise `InputError` otherwise.

    Partitions are None, at least 1 sample per group, the sizes of all groups in their order, of which any may be 0, or
    `Regions`.
    """
    if ghost is None:
        return None
    sizes = plain(ghost)
    if isinstance(sizes, list) and not isinstance(ghost, list):
        given = " ".join(repr(ghost).split())
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes)
        nearest = f"the nearest valid ones are {tuple(sizes)}" if sizes and whole else "expected whole numbers"
        raise InputError(f"ghost batches of sizes {given:.60} are impossible; {nearest}, in a tuple")
    if isinstance(ghost, (tuple, list)):
        if not ghost:
            raise InputError("ghost batches of no sizes are impossible; the nearest is None, for the whole batch")
        ghost = tuple(check_whole(size, 0, "ghost batches of {} samples") for size in ghost)
    elif not isinstance(ghost, Regions):
        ghost = check_whole(ghost, 1, "ghost batches of {} samples")
    if sync is not False:
        raise InputError("ghost batches and synchronised statistics exclude each other; choose ghost or sync")
    found: GhostLike = ghost
    return found


def check_sync(sync: Any) -> Any:
    """Return `sync` if it is True, False or a process group; raise `InputError` for anything else."""
    if isinstance(sync, bool) or (dist.is_available() and isinstance(sync, dist.ProcessGroup)):
        return sync
    raise InputError(f"sync {sync!r} is no process group; the nearest are True, for all processes, and False")


def check_model(caller: str, model: object, argument: str = "") -> None:
    """Raise `InputError` if a function of this name, or its `argument`, is given anything but a module."""
    if not isinstance(model, nn.Module):
        what = f"{caller} takes a torch.nn.Module{argument and f' as {argument}'}"
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise InputError(f"{what}, got {kind}; the nearest is the model")


def check_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """Return `dtype` if parameters can have it, or None; raise `InputError` for integers and complex numbers."""
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        return dtype
    raise InputError(f"dtype {dtype!r} is no dtype of real numbers with fractions, such as torch.float32")


def plain(value: Any) -> Any:
    """What an array or a tensor holds as Python's own numbers, in a list where there are several; else the value."""
    if not hasattr(value, "tolist"):
        return value
    try:
        return value.tolist()
    except (RuntimeError, NotImplementedError):  # on the meta device there are no numbers
        return value


def _real(value: Any) -> float | None:
    """A real number as a float; None for what is none, truth values and nan among them."""
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        return None
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """Return the value of the argument `name` if it is true or false; raise `InputError` otherwise."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "num_features": check_channels,
    "num_channels": check_channels,
    "eps": check_eps,
    "momentum": check_momentum,
    "ghost": check_ghost,
    "sync": check_sync,
    **{name: partial(check_flag, name) for name in ("affine", "track_running_stats", "tied")},
}
