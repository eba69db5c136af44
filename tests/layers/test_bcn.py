"""BCN against its definition, written as loops."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import BatchChannelNorm1d, BatchChannelNorm2d, BatchChannelNorm3d, Spec
from switchnorm.layers.norms.group import default_groups
from switchnorm.surgery import ghost

pytestmark = pytest.mark.usefixtures("poisoned")

KINDS = {0: BatchChannelNorm1d, 1: BatchChannelNorm1d, 2: BatchChannelNorm2d, 3: BatchChannelNorm3d}
#: Odd sizes, odd channels, a single channel, a single sample, a flat input, single elements.
SHAPES = [(5, 6), (5, 7, 3), (3, 6, 3, 5), (4, 1, 3, 3), (1, 9, 5, 2), (3, 2, 1, 3, 2), (1, 4, 1, 1)]


def moved(x: Tensor, mean: Tensor, var: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """The estimates after a batch."""
    means, variances = mean.clone(), var.clone()
    for c in range(x.shape[1]):
        values = x[:, c].flatten().tolist()
        means[c] += rate * (sum(values) / len(values) - float(mean[c]))
        spread = sum((value - float(mean[c])) ** 2 for value in values) / len(values)
        variances[c] += rate * (spread - float(var[c]))
    return means, variances


def defined(x: Tensor, layer: Any, mean: Tensor, var: Tensor) -> Tensor:
    """Channels by the estimates, then each sample's groups of channels by themselves."""
    width = x.shape[1] // layer.num_groups
    samples = []
    for n in range(len(x)):
        channels = []
        for c in range(x.shape[1]):
            z = (x[n, c] - mean[c]) / (var[c] + layer.eps).sqrt()
            channels.append(z if layer.weight is None else z * layer.weight[c] + layer.bias[c])
        groups = []
        for g in range(layer.num_groups):
            group = torch.stack(channels[g * width : (g + 1) * width])
            centre = sum(group.flatten()) / group.numel()
            spread = sum((value - centre) ** 2 for value in group.flatten()) / group.numel()
            y = (group - centre) / (spread + layer.eps).sqrt()
            groups.append(y if layer.weight is None else y * layer.channel_weight[g] + layer.channel_bias[g])
        samples.append(torch.cat(groups))
    return torch.stack(samples)


def random_layer(shape: tuple[int, ...], **options: Any) -> Any:
    layer = KINDS[len(shape) - 2](shape[1], eps=1e-3, dtype=torch.float64, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(layer.running_mean)
    nn.init.uniform_(layer.running_var, 0.5, 2)
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], affine: bool, training: bool
) -> None:
    layer = random_layer(shape, affine=affine, momentum=0.3).train(training)
    x = (torch.randn(shape, dtype=torch.float64) * 2 + 1).requires_grad_()
    dy = torch.randn(shape, dtype=torch.float64)
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    if training:
        mean, var = moved(x.detach(), mean, var, 0.3)
    y = layer(x)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, var)
    assert layer.num_batches_tracked == int(training)
    expected = defined(x, layer, mean, var)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    inputs = [x, *layer.parameters()]
    found, wanted = (torch.autograd.grad(each, inputs, dy) for each in (y, expected))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_groups(groups: int) -> None:
    layer = random_layer((3, 6, 4, 2), groups=groups).eval()
    assert [len(p) for p in layer.parameters()] == [6, 6, groups, groups]
    x = torch.randn(3, 6, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(x), defined(x, layer, layer.running_mean, layer.running_var))
    assert Spec.parse(f"bcn:{groups}+ws").layer(6).num_groups == groups
    assert Spec.parse("bcn").layer(48).num_groups == default_groups(48)


def test_a_gradient_that_comes_after_the_next_batch_is_that_of_its_own() -> None:
    layer = random_layer((3, 6, 4, 2))
    again = copy.deepcopy(layer)
    first, second = (torch.randn(3, 6, 4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    y = layer(first)
    layer(second)
    (late,) = torch.autograd.grad(y.square().sum() + y.sum(), first)
    y = again(first)
    (early,) = torch.autograd.grad(y.square().sum() + y.sum(), first)
    torch.testing.assert_close(late, early, rtol=0, atol=0)


def test_momentum_none_averages_the_moments_of_batches() -> None:
    layer = random_layer((4, 6, 3, 2), momentum=None)
    layer.reset_running_stats()
    batches = [torch.randn(4, 6, 3, 2, dtype=torch.float64) + 5 * shift for shift in range(3)]
    for x in batches:
        layer(x)
    torch.testing.assert_close(layer.running_mean, torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0))
    variances = [x.var((0, 2, 3), correction=0) for x in batches]
    torch.testing.assert_close(layer.running_var, torch.stack(variances).mean(0))
    layer.reset_running_stats()
    assert torch.equal(layer.running_mean, torch.zeros(6).double())
    assert torch.equal(layer.running_var, torch.ones(6).double())
    assert layer.num_batches_tracked == 0


def test_residual_and_activation_are_added_after() -> None:
    layer = random_layer((4, 6, 3, 2)).eval()
    x, residual = torch.randn(2, 4, 6, 3, 2, dtype=torch.float64).unbind()
    torch.testing.assert_close(layer(x, residual, "relu"), (layer(x) + residual).relu())
    layer.activation = "relu"
    assert layer(x).min() == 0


@pytest.mark.parametrize("shape", [(0, 6, 3, 3), (2, 6, 0, 3)])
def test_an_empty_batch_moves_no_estimate(shape: tuple[int, ...]) -> None:
    layer = BatchChannelNorm2d(6)
    layer(torch.empty(shape, requires_grad=True)).sum().backward()
    assert layer.num_batches_tracked == 0
    assert torch.equal(layer.running_var, torch.ones(6))


def test_half_precision_keeps_statistics_in_single(recwarn: Any) -> None:
    layer = BatchChannelNorm2d(6)
    x = torch.randn(3, 6, 4, 2)
    y = copy.deepcopy(layer)(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x.bfloat16().float()), rtol=0.02, atol=0.02)


def test_ghost_batches_are_refused() -> None:
    net = nn.Sequential(nn.BatchNorm2d(4), BatchChannelNorm2d(4))
    with pytest.raises(InputError, match="layer '1' cannot take ghost: 'bcn' does not support ghost batches"):
        ghost(net, 2)
    assert type(net[0]) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchChannelNorm2d(6, groups=4), "4 groups do not divide 6 channels"),
        (lambda: BatchChannelNorm2d(6, activation="gelu"), "activation 'gelu' is unknown"),
        (lambda: BatchChannelNorm2d(6)(torch.ones(2, 5, 3, 3)), "takes 4 dimensions with 6 channels, got"),
        (lambda: BatchChannelNorm1d(6)(torch.ones(2, 6, 3, 3)), "takes 2 or 3 dimensions"),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_repr() -> None:
    assert repr(BatchChannelNorm2d(6, 2, affine=False, sync=True, activation="relu")) == (
        "BatchChannelNorm2d(6, groups=2, eps=1e-05, momentum=0.1, affine=False, sync=True, activation='relu')"
    )


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives(training: bool) -> None:
    layer = BatchChannelNorm2d(6, momentum=0.0).double().train(training)
    x = torch.randn(2, 6, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, (x,))


@pytest.mark.parametrize("training", [True, False])
def test_compiles_and_exports_as_one_graph(training: bool) -> None:
    torch.compiler.reset()
    layer = BatchChannelNorm2d(6).train(training)
    x = torch.randn(4, 6, 3, 2)
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), copy.deepcopy(layer)(x))
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(copy.deepcopy(layer), (x,), dynamic_shapes=({0: batch},)).module()
    for samples in (4, 7):
        x = torch.randn(samples, 6, 3, 2)
        torch.testing.assert_close(exported(x), layer(x))
