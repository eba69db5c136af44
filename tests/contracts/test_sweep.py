"""Contract: every network of the registry, switched to any normalization, runs and trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import list_models

from switchnorm.surgery import plan_switch, switch
from tests.contracts.networks import EXCLUDED, NETWORKS, WITHOUT, Network

SPECS = ("bn", "gn", "sn", "ssn", "gn+ws")

# Small networks, one of every kind, for every day.
SAMPLE = {
    *("torchvision-resnet18", "torchvision-densenet121", "torchvision-mobilenet_v3_small"),
    *("torchvision-regnet_y_400mf", "torchvision-googlenet"),
    *("torchvision-lraspp_mobilenet_v3_large", "torchvision-r3d_18"),
    *("timm-mobilenetv4_conv_small_035", "timm-tf_efficientnet_b0", "timm-ghostnet_050", "timm-levit_128s"),
    *("timm-resnetv2_50d_gn", "timm-starnet_s050"),
}
MIXING = ("mean_weight", "var_weight")


def cases(networks: list[Network]) -> Any:
    """Decorator: a test for each of the networks and each normalization."""
    return pytest.mark.parametrize(
        ("network", "spec"), [pytest.param(n, spec, id=f"{n}-{spec}") for n in networks for spec in SPECS]
    )


def tensors(output: Any) -> Iterator[Tensor]:
    """All tensors of a network's output, which may be a tuple or a dictionary."""
    if isinstance(output, Tensor):
        yield output
    else:
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from tensors(part)


def train_step(net: nn.Module, shape: tuple[int, ...]) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """Outputs for two samples, and the gradient of every parameter under random cotangents."""
    outputs = list(tensors(net.train()(torch.randn(2, *shape))))
    torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
    return outputs, {name: p.grad for name, p in net.named_parameters() if p.requires_grad}


@cache
def unused(network: Network) -> frozenset[str]:
    """The parameters that the network itself leaves without a gradient."""
    _, gradients = train_step(network.build(), network.input)
    return frozenset(name for name, gradient in gradients.items() if gradient is None)


def check(network: Network, spec: str) -> None:
    """The contract: finite outputs, and finite gradients for the very parameters that had one before the switch.

    A layer's mixing logits are new; they have a gradient exactly where the layer's own scale has one.
    """
    before = unused(network)
    torch.manual_seed(0)
    net = switch(network.build(), spec)
    outputs, gradients = train_step(net, network.input)
    assert all(output.isfinite().all() for output in outputs)
    scales = {name: f"{name.rpartition('.')[0]}.weight" for name in gradients if name.endswith(MIXING)}
    expected = before | {name for name, scale in scales.items() if scale in before}
    assert {name for name, gradient in gradients.items() if gradient is None} == expected
    bad = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    assert not bad


#: Of these each has SN, and in turn one of the others, which `make sweep` has with all networks.
SAMPLED = [network for network in NETWORKS if str(network) in SAMPLE]
OTHERS = [spec for spec in SPECS if spec != "sn"]


@pytest.mark.parametrize(
    ("network", "spec"),
    [
        pytest.param(network, spec, id=f"{network}-{spec}")
        for place, network in enumerate(SAMPLED)
        for spec in ("sn", OTHERS[place % len(OTHERS)])
    ],
)
def test_sample(network: Network, spec: str) -> None:
    check(network, spec)


@pytest.mark.sweep
@cases(NETWORKS)
def test_sweep(network: Network, spec: str) -> None:
    check(network, spec)


def test_sample_is_of_the_registry():
    assert {str(network) for network in NETWORKS} >= SAMPLE


def test_registry_leaves_out_no_network_of_torchvision():
    modules = (torchvision.models, torchvision.models.segmentation, torchvision.models.video)
    known = {network.name for network in NETWORKS if network.library == "torchvision"} | {*WITHOUT, *EXCLUDED}
    assert known == {name for module in modules for name in list_models(module=module)}


@pytest.mark.sweep
@pytest.mark.parametrize("name", WITHOUT)
def test_networks_left_out_have_nothing_that_switches(name):
    assert plan_switch(Network("torchvision", name, ()).build(), "sn").changes == []


@pytest.mark.sweep
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_networks_have_normalizations_that_switch(network):
    assert plan_switch(network.build(), "sn").changes
