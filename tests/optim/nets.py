"""Small networks with SSN layers, data that make them choose, and what training has made of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from switchnorm import SparseSwitchNorm2d, SwitchNorm2d

CHOICES = ("radius", "mean_fixed", "var_fixed")


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = (SparseSwitchNorm2d(5), SparseSwitchNorm2d(4))
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), layers[0], nn.ReLU(), nn.Conv2d(5, 4, 3), layers[1], nn.Flatten(), nn.Linear(4 * 3 * 4, 2)
    )


def mixed_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4), nn.Conv2d(4, 4, 3), SparseSwitchNorm2d(4))


def batches(count: int, samples: int = 5) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(samples, 3, 7, 8, generator=generator)
        yield x * (1 + torch.arange(samples)[:, None, None, None]), torch.randn(samples, 2, generator=generator)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, target = batch
    return (model(x) - target).square().mean()


def sparse(model: nn.Module) -> list[SparseSwitchNorm2d]:
    return [layer for layer in model.modules() if isinstance(layer, SparseSwitchNorm2d)]


def radii(model: nn.Module) -> list[float]:
    return [float(layer.radius) for layer in sparse(model)]


def all_final(model: nn.Module) -> bool:
    return all(bool(layer.mean_fixed and layer.var_fixed) for layer in sparse(model))


def choices(model: nn.Module) -> list[tuple[float, ...]]:
    """Radius and flags of each sparse layer, as its tensors hold them."""
    return [tuple(float(layer._buffers[name]) for name in CHOICES) for layer in sparse(model)]
