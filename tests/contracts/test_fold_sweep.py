"""Contract: every network, switched to any normalization, folds to a copy that computes the same, as exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.layers import kind_of
from switchnorm.surgery import plan_fold, switch
from tests.contracts.networks import NETWORKS
from tests.contracts.test_sweep import tensors
from tests.surgery.folding.folded import chosen, trained

STATISTICS = ("instance", "layer", "batch")
#: What SSN's layer number i has chosen, for mean and variance.
CHOICES: dict[str, Callable[[int], tuple[str, str]]] = {
    "ssn batch": lambda i: ("batch", "batch"),
    "ssn alike": lambda i: (STATISTICS[i % 3],) * 2,
    "ssn apart": lambda i: (STATISTICS[i % 3], STATISTICS[i // 3 % 3]),
}
NORMS = ("bn", "gn", "gn+ws", "sn", "ssn", *CHOICES, "in", "ln", "ibn", "bcn", "bn+ws")
#: Of this library: a network of each kind, and the side of its pictures.
OURS = {
    **dict.fromkeys(("cifar_vgg11_bn", "cifar_resnet20", "cifar_preresnet20", "cifar_resnext29_8x64"), 32),
    **dict.fromkeys(("cifar_densenet40_12", "cifar_wrn16_8", "resnetv1sn18", "resnetv2sn18"), 32),
}


def networks() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """All networks by name: what makes them, and the shape of a sample."""
    found: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {}
    for network in NETWORKS:
        found[str(network)] = (network.build, network.input)
    names = [*switchnorm.list_models("resnet18_dilated8+*"), "resnet50_dilated8+upernet"]
    for name in names:
        found[name] = (lambda name=name: switchnorm.create_model(name, norm="bn", num_classes=3), (3, 64, 64))
    for name, side in OURS.items():
        found[name] = (lambda name=name: switchnorm.create_model(name, norm="bn", num_classes=3), (3, side, side))
    for name in ("resnet18_fpn+faster_4conv1fc", "resnet18_fpn+retina", "resnet18_fpn+fcos"):
        found[f"body of {name}"] = (
            lambda name=name: Features(switchnorm.create_model(name, norm="bn", num_classes=3)),
            (3, 64, 64),
        )
    return found


class Features(nn.Module):
    """Body and pyramid of a detector, which give tensors for any picture."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: torch.Tensor) -> Any:
        """(N, 3, H, W) -> the maps of all levels."""
        return self.detector.features(x)


@torch.no_grad()
def check(make: Callable[[], nn.Module], shape: tuple[int, ...], norm: str, size: int | None = None) -> None:
    """The contract: exact in float64, and in float32 within 3 times eager mode's distance from that.

    Where eager mode itself is near to float64, the copy is within 1e-5 of the largest output. Networks of random
    weights may have a hundred times that from rounding alone.
    """
    torch.manual_seed(0)
    net = switch(make(), norm.partition(" ")[0])
    trained(net)
    if norm in CHOICES:
        chosen(net, CHOICES[norm])
    # Running statistics of what is there: others would let numbers grow from layer to layer.
    switchnorm.calibrate(net, [torch.randn(4, *shape) for _ in range(2)])
    net.eval()
    plan = plan_fold(net, size)
    folded = plan.apply()
    assert len(plan.changes) + len(plan.left) >= sum(kind_of(m) is not None for m in net.modules())
    exact = copy.deepcopy(net).double()
    exactly_folded = plan_fold(exact, size).apply()
    x = torch.randn(2, *shape)
    wide = x.double()
    given = (tensors(each) for each in (net(x), folded(x), exact(wide), exactly_folded(wide)))
    for y, found, true, found_exactly in zip(*given, strict=True):
        top, rounding = true.abs().max(), (y - true).abs().max()
        assert (found_exactly - true).abs().max() <= 1e-10 * top
        assert (found - true).abs().max() <= 3 * rounding + 2e-7 * top
        if rounding <= 2e-6 * top:
            assert (found - y).abs().max() <= 1e-5 * top


ALL = networks()
#: For every day: one of each kind, with the normalizers in turn.
SAMPLE = {"cifar_preresnet20": ("ssn alike", "gn+ws"), "torchvision-mobilenet_v3_small": ("ssn batch",)}


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, norms in SAMPLE.items() for norm in norms])
def test_sample(name: str, norm: str) -> None:
    make, shape = ALL[name]
    check(make, shape, norm)


#: Some normalizations there see (N, C), which has no instance statistic, so that no forward pass gets through.
FLAT = {("timm-levit_128s", "ibn")}


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name in ALL for norm in NORMS if (name, norm) not in FLAT])
def test_sweep(name: str, norm: str) -> None:
    make, shape = ALL[name]
    check(make, shape, norm)


@pytest.mark.sweep
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["torchvision-resnet18", "timm-resnet26t", "cifar_densenet40_12"])
def test_sweep_of_one_size(name: str, norm: str) -> None:
    make, shape = ALL[name]
    check(make, shape, norm, size=shape[-1])
