"""What Switchable Normalization layers chose, and making sparse ones choose."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.layers import norm_of
from switchnorm.layers.arguments import check_model
from switchnorm.ops.simplex import check_radius
from switchnorm.surgery.freeze import is_frozen


class LayerImportance(NamedTuple):
    """What one layer chose.

    Attributes:
        layer: its name in the model.
        statistics: K names.
        mean, var: the K importances in the mean and in the variance, in the order of `statistics`.
        frozen: whether both choices are final (see `harden`).
    """

    layer: str
    statistics: tuple[str, ...]
    mean: tuple[float, ...]
    var: tuple[float, ...]
    frozen: bool


def importance(model: nn.Module) -> list[LayerImportance]:
    """The importances of all layers that mix statistics, in the order of definition, mostly that of depth.

    Waits for the device once.
    """
    check_model("importance", model)
    layers = mixing_layers(model)
    numbers = iter(_gather([part for _, layer in layers for part in (*layer.importance(), _frozen(layer))]))
    rows = []
    for name, layer in layers:
        mean, var = (tuple(next(numbers) for _ in layer.statistics) for _ in range(2))
        rows.append(LayerImportance(name, layer.statistics, mean, var, bool(next(numbers))))
    return rows


def harden(model: nn.Module) -> tuple[int, int]:
    """Make every importance of the sparse layers that has become one-hot final, frozen parts aside (see `freeze`).

    Meant for once an epoch.

    Returns:
        How many choices are final now, and how many there are: two per layer, for the mean and the variance.
    """
    check_model("harden", model)
    layers = sparse_layers(model)
    for layer in layers:
        if not is_frozen(layer):
            layer.harden()
    return int(sum(_gather([fixed for layer in layers for fixed in (layer.mean_fixed, layer.var_fixed)]))), 2 * len(
        layers
    )


def unharden(model: nn.Module) -> int:
    """Let the sparse layers that are not frozen (see `freeze`) choose again: `SparseSwitchNorm.unharden` for each.

    No choice is final any more, every radius is 0 and every logit receives a gradient. Training goes on as from the
    start of a schedule: the radius grows again and `harden` makes choices final.

    Returns:
        How many layers had a final choice.
    """
    check_model("unharden", model)
    return sum([layer.unharden() for layer in sparse_layers(model) if not is_frozen(layer)])


def set_radius(model: nn.Module, radius: float) -> int:
    """Set SparsestMax's radius in all sparse layers that are not frozen (see `freeze`).

    Returns:
        How many layers have it now; 0 where it has no effect.

    Raises:
        InputError: outside [0, 1]; before any changes.
    """
    check_model("set_radius", model)
    check_radius(radius)
    layers = [layer for layer in sparse_layers(model) if not is_frozen(layer)]
    for layer in layers:
        layer.set_radius(radius)
    return len(layers)


def mixing_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """The layers that mix statistics by logits, such as SN and SSN, and their names."""
    named = ((name, module, norm_of(module)) for name, module in model.named_modules())
    return [(name, module) for name, module, norm in named if norm is not None and norm.mixes]


def sparse_layers(model: nn.Module) -> list[Any]:
    """Those of them whose importance becomes one-hot, such as SSN."""
    return [layer for _, layer in mixing_layers(model) if is_sparse(layer)]


def is_sparse(layer: nn.Module) -> bool:
    """Whether the importance of a layer becomes one-hot."""
    norm = norm_of(layer)
    return norm is not None and norm.sparse


def _frozen(layer: Any) -> Tensor:
    """(1,): whether both choices of a layer are final."""
    if is_sparse(layer):
        fixed: Tensor = layer.mean_fixed * layer.var_fixed
        return fixed
    return torch.zeros_like(layer.mean_weight[:1])


@torch.no_grad()
def _gather(tensors: list[Tensor]) -> list[float]:
    """All numbers of 1-d tensors on any device, in one transfer."""
    if not tensors:
        return []
    device = tensors[0].device
    numbers: list[float] = torch.cat([tensor.detach().to(device, torch.float32) for tensor in tensors]).tolist()
    return numbers
