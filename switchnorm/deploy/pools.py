"""Adaptive pooling that stays right at sizes that a program was not traced with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from switchnorm.errors import InputError


class AnySizePools(TorchFunctionMode):
    """Within it, adaptive pooling is computed from the sizes that maps have.

    Exporters cut a map into parts at the borders that the example's has, and say nothing. Here the borders are computed
    by the program. An average is then two products of matrices.

    Args:
        averages: whether averages are computed so too, and not only maxima, which no exporter knows otherwise.
    """

    def __init__(self, averages: bool = True) -> None:
        super().__init__()
        self._pools = {**_MAXIMA, **_AVERAGES} if averages else _MAXIMA

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called for every function of torch."""
        given = dict(kwargs or {})
        if function not in self._pools:
            return function(*args, **given)
        pool, places = self._pools[function]
        return pool(places, *args, **given)


def average(places: int, input: Tensor, output_size: Any) -> Tensor:
    """As `adaptive_avg_poolNd`, N being `places`: means over parts of the last N dimensions."""
    sizes = _sizes(places, output_size)
    whole = [dim for dim, parts in sizes if parts == 1]
    x = input.mean(whole, keepdim=True) if whole else input
    for dim, parts in sizes:
        if parts > 1:
            within, lengths = _parts(x, dim, parts)
            weights = within.to(x.dtype) / lengths.to(x.dtype)[:, None]
            x = torch.matmul(x.transpose(dim, -1), weights.t()).transpose(dim, -1)
    return x


def largest(places: int, input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """As `adaptive_max_poolNd`, N being `places`, without indices."""
    if return_indices:
        raise InputError("adaptive maximum pooling with indices has no form for any size; leave height and width fixed")
    x = input
    for dim, parts in _sizes(places, output_size):
        if parts == 1:
            x = x.amax(dim, keepdim=True)
        else:
            within, _ = _parts(x, dim, parts)
            turned = x.transpose(dim, -1)
            found = [turned.masked_fill(~within[part], float("-inf")).amax(-1) for part in range(parts)]
            x = torch.stack(found, -1).transpose(dim, -1)
    return x


def _sizes(places: int, output_size: Any) -> list[tuple[int, int]]:
    """(dimension, number of parts) of those that are pooled; None leaves one as it is."""
    sizes = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * places
    return [(dim - places, int(parts)) for dim, parts in enumerate(sizes) if parts is not None]


def _parts(x: Tensor, dim: int, parts: int) -> tuple[Tensor, Tensor]:
    """Which places are in each part, (parts, size), and how many.

    Part i of k over n places is floor(i n / k) up to, and without, ceil((i + 1) n / k).
    """
    size = x.shape[dim]
    part = torch.arange(parts, device=x.device)
    place = torch.arange(size, device=x.device)
    first = torch.div(part * size, parts, rounding_mode="floor")
    last = torch.div((part + 1) * size + parts - 1, parts, rounding_mode="floor")
    within = (place >= first[:, None]) & (place < last[:, None])
    return within, last - first


_AVERAGES: Mapping[Callable[..., Any], tuple[Callable[..., Tensor], int]] = {
    F.adaptive_avg_pool1d: (average, 1),
    F.adaptive_avg_pool2d: (average, 2),
    F.adaptive_avg_pool3d: (average, 3),
}
_MAXIMA: Mapping[Callable[..., Any], tuple[Callable[..., Tensor], int]] = {
    F.adaptive_max_pool1d: (largest, 1),
    F.adaptive_max_pool2d: (largest, 2),
    F.adaptive_max_pool3d: (largest, 3),
}
