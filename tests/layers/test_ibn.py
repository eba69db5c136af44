"""IBN against its definition, written as loops."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import InstanceBatchNorm1d, InstanceBatchNorm2d, InstanceBatchNorm3d, Spec

pytestmark = pytest.mark.usefixtures("poisoned")

KINDS = {1: InstanceBatchNorm1d, 2: InstanceBatchNorm2d, 3: InstanceBatchNorm3d}
#: Odd sizes, odd channels, a single channel, a single sample, single elements.
SHAPES = [(5, 7, 3), (3, 5, 3, 5), (4, 1, 3, 3), (1, 6, 5, 2), (3, 2, 1, 3, 2), (4, 4, 1, 1)]


def defined(x: Tensor, layer: Any, first: int) -> Tensor:
    """Channel by channel: over each map where c < `first`, else over all maps of the channel."""
    columns = []
    for c in range(x.shape[1]):
        maps = [x[n, c].flatten() for n in range(len(x))]
        pools = maps if c < first else [torch.cat(maps)] * len(maps)
        column = []
        for n, pool in enumerate(pools):
            mean = sum(pool) / len(pool)
            var = sum((value - mean) ** 2 for value in pool) / len(pool)
            column.append((x[n, c] - mean) / (var + layer.eps).sqrt())
        column = torch.stack(column)
        columns.append(column if layer.weight is None else column * layer.weight[c] + layer.bias[c])
    return torch.stack(columns, 1)


def random_layer(shape: tuple[int, ...], **options: Any) -> Any:
    layer = KINDS[len(shape) - 2](shape[1], eps=1e-3, dtype=torch.float64, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_forward_and_gradients_are_those_of_the_definition(shape: tuple[int, ...], affine: bool) -> None:
    layer = random_layer(shape, affine=affine)
    first = shape[1] // 2
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(shape, dtype=torch.float64)
    inputs = [x, *layer.parameters()]
    y, expected = layer(x), defined(x, layer, first)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    found, wanted = (torch.autograd.grad(each, inputs, dy) for each in (y, expected))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("instance_channels", [0, 1, 5])
def test_any_number_of_channels_may_take_instance_statistics(instance_channels: int) -> None:
    layer = random_layer((4, 5, 3, 2), instance_channels=instance_channels)
    x = torch.randn(4, 5, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(x), defined(x, layer, instance_channels), rtol=1e-9, atol=1e-9)
    assert len(layer.running_mean) == 5 - instance_channels


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_are_those_of_torch_for_the_second_half(momentum: float | None) -> None:
    layer, theirs = random_layer((6, 5, 3, 2), momentum=momentum), nn.BatchNorm2d(3, 1e-3, momentum).double()
    for _ in range(3):
        x = torch.randn(6, 5, 3, 2, dtype=torch.float64)
        layer(x), theirs(x[:, 2:])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(layer, name), getattr(theirs, name))
    with torch.no_grad():
        theirs.weight.copy_(layer.weight[2:])
        theirs.bias.copy_(layer.bias[2:])
    y = layer.eval()(x)
    torch.testing.assert_close(y[:, 2:], theirs.eval()(x[:, 2:]))
    torch.testing.assert_close(y[:, :2], defined(x, layer, 2)[:, :2])
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("ghost", [2, 3, 6, 9])
def test_ghosts_are_the_layer_on_every_part_and_end_with_training(ghost: int) -> None:
    layer = random_layer((7, 5, 3, 2), ghost=ghost, track_running_stats=False)
    plain = random_layer((7, 5, 3, 2), track_running_stats=False)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(7, 5, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.cat([plain(part) for part in x.split(ghost)]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer.eval()(x), plain(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_residual_and_activation_are_added_after(memory_format: torch.memory_format) -> None:
    layer = random_layer((4, 5, 3, 2))
    x, residual = (torch.randn(4, 5, 3, 2).double().to(memory_format=memory_format) for _ in range(2))
    y = layer(x, residual, "relu")
    torch.testing.assert_close(y, (layer(x) + residual).relu())
    assert y.is_contiguous(memory_format=memory_format)
    assert random_layer((4, 5, 3, 2), activation="relu")(x).min() == 0


def test_an_empty_batch_leaves_no_running_statistics() -> None:
    layer = InstanceBatchNorm2d(5)
    assert layer(torch.empty(0, 5, 3, 3)).shape == (0, 5, 3, 3)
    assert torch.equal(layer.running_var, torch.ones(3))
    assert layer.num_batches_tracked == 0


def test_flat_inputs_have_no_instance_statistic() -> None:
    with pytest.raises(InputError, match=r"input \(4, 6\) has no instance statistic, which 3 channels take; construct"):
        InstanceBatchNorm1d(6)(torch.randn(4, 6))
    flat = Spec("ibn").layer(6, 1, flat=True)
    x = torch.randn(4, 6)
    torch.testing.assert_close(flat(x), nn.BatchNorm1d(6)(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InstanceBatchNorm2d(6, instance_channels=7), "instance_channels 7 of 6; the nearest valid is 6"),
        (lambda: InstanceBatchNorm2d(6, instance_channels=-1), "-1 instance channels .* the nearest valid size is 0"),
        (lambda: InstanceBatchNorm2d(6, ghost=0), "the nearest valid size is 1"),
        (lambda: InstanceBatchNorm2d(6, ghost=2, sync=True), "choose ghost or sync"),
        (lambda: InstanceBatchNorm2d(6, activation="gelu"), "activation 'gelu' is unknown"),
        (lambda: InstanceBatchNorm2d(6)(torch.ones(2, 5, 3, 3)), "takes 4 dimensions with 6 channels, got"),
        (lambda: InstanceBatchNorm2d(6)(torch.ones(1, 6, 1, 1)), r"got input \(1, 6, 1, 1\); use 2 or more samples$"),
        (lambda: InstanceBatchNorm2d(6)(torch.ones(2, 6, 3, 3), torch.ones(6)), "a residual must have the input's"),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_repr() -> None:
    layer = InstanceBatchNorm2d(6, affine=False, ghost=2, activation="relu")
    assert repr(layer) == (
        "InstanceBatchNorm2d(6, instance_channels=3, eps=1e-05, momentum=0.1, affine=False, ghost=2, activation='relu')"
    )
    assert repr(InstanceBatchNorm2d(6, sync=True)).endswith("sync=True)")


def test_the_variance_of_one_element_is_zero() -> None:
    y = InstanceBatchNorm2d(2)(torch.tensor([3.0, 5.0]).view(1, 2, 1, 1).repeat(2, 1, 1, 1))
    assert torch.equal(y, torch.zeros(2, 2, 1, 1))
    assert math.isfinite(float(y.sum()))


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives(training: bool) -> None:
    layer = InstanceBatchNorm2d(5, momentum=0.0).double().train(training)
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, (x,))


@pytest.mark.parametrize("training", [True, False])
def test_compiles_and_exports_as_one_graph(training: bool) -> None:
    torch.compiler.reset()
    layer = InstanceBatchNorm2d(5).train(training)
    x = torch.randn(4, 5, 3, 2)
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), copy.deepcopy(layer)(x))
    exported = torch.export.export(copy.deepcopy(layer), (x,)).module()
    torch.testing.assert_close(exported(x), layer(x))
