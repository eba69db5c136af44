"""Ghost batches of unequal sizes, some of them empty: each is what a layer alone makes of it, forward and backward."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm2d, InstanceBatchNorm2d, SwitchNorm1d, SwitchNorm2d, all_norms
from switchnorm.ops.partition import parts
from tests.ops.definitions import partitions

GHOSTING = [norm for norm in all_norms() if norm.ghost]
#: By spatial dimensions; 0 is a flat input.
SIDES = {0: (), 1: (3,), 2: (2, 3), 3: (1, 2, 3)}
CHANNELS = 4


def layer_of(norm: Any, dims: int, **options: Any) -> Any:
    options = dict(norm.flat or {}) | options if dims == 0 else options
    layer = norm.layers[dims or 1](CHANNELS, **options).double()
    for tensor in (*layer.parameters(), layer.running_mean):
        nn.init.normal_(tensor, 1.0, 0.5)
    return layer


def by_loop(layer: nn.Module, x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, list[Any]]:
    """What a layer of each group by itself makes of it, and these layers, which share parameters."""
    layers = [copy.deepcopy(layer) for _ in sizes]
    for each in layers:
        each._parameters = dict(layer._parameters)
    return torch.cat([each(part) for each, part in zip(layers, x.split(sizes), strict=True)]), layers


def leaves_of(x: Tensor, layer: nn.Module) -> list[Tensor]:
    return [x, *layer.parameters()]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Any, int, tuple[int, ...], float | None, int]:
    dims = draw(st.sampled_from([*SIDES]))
    sizes = draw(partitions(draw(st.integers(0, 7))))
    if dims == 0:
        sizes = tuple(size + (size == 1) for size in sizes)  # of one value there are no statistics
    return draw(st.sampled_from(GHOSTING)), dims, sizes, draw(st.sampled_from((0.3, None))), draw(st.integers(0, 99))


@given(batches())
@settings(max_examples=80)
@pytest.mark.usefixtures("poisoned")
def test_every_group_is_what_a_layer_alone_computes(case: Any) -> None:
    norm, dims, sizes, momentum, seed = case
    torch.manual_seed(seed)
    plain = layer_of(norm, dims, momentum=momentum)
    parted = copy.deepcopy(plain)
    parted.ghost = sizes
    x = torch.randn(sum(sizes), CHANNELS, *SIDES[dims], dtype=torch.float64).mul_(3).add_(1).requires_grad_()
    dy, ddx = torch.randn_like(x), torch.randn_like(x)

    y, (expected, layers) = parted(x), by_loop(plain, x, sizes)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    found = torch.autograd.grad(y, leaves_of(x, parted), dy, retain_graph=True)
    wanted = torch.autograd.grad(expected, leaves_of(x, plain), dy, retain_graph=True)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)
    twice = []
    for output, layer in ((y, parted), (expected, plain)):
        (dx,) = torch.autograd.grad(output, x, dy, create_graph=True)
        twice.append(torch.autograd.grad(dx, leaves_of(x, layer), ddx, allow_unused=True, materialize_grads=True))
    torch.testing.assert_close(*twice, rtol=0, atol=1e-9)

    if any(sizes):
        counted = [each for each, size in zip(layers, sizes, strict=True) if size or momentum is not None]
        for name in ("running_mean", "running_var"):
            mean = torch.stack([getattr(each, name) for each in counted]).mean(0)
            torch.testing.assert_close(getattr(parted, name), mean, rtol=0, atol=1e-12)
    else:
        torch.testing.assert_close(dict(parted.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0)
    assert int(parted.num_batches_tracked) == int(any(sizes))


@pytest.mark.parametrize("norm", GHOSTING, ids=lambda norm: norm.name)
def test_equal_groups_have_the_bits_of_their_number(norm: Any) -> None:
    torch.manual_seed(0)
    by_number = layer_of(norm, 2)
    by_number.ghost = 3
    x, dy = torch.randn(2, 8, CHANNELS, 5, 3)
    found = []
    for ghost in (3, (3, 3, 2)):
        layer = copy.deepcopy(by_number).float()
        layer.ghost = ghost
        leaf = x.clone().requires_grad_()
        layer(leaf).backward(dy)
        found.append([leaf.grad, *(p.grad for p in layer.parameters()), *layer.buffers()])
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_one_group_is_the_batch_by_torchs_own_kernel() -> None:
    assert [parts(ghost, 6) for ghost in ((6,), (0, 6, 0), (2, 2, 2), (4, 0, 2), (2, 4), 9, None)] == [
        *(None, None, 2, 4, (2, 4), 9, None)
    ]
    torch.manual_seed(0)
    layer, plain = BatchNorm2d(CHANNELS, ghost=(6,)), nn.BatchNorm2d(CHANNELS)
    x = torch.randn(6, CHANNELS, 3, 3)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    torch.testing.assert_close(layer.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_evaluation_knows_no_groups() -> None:
    layer = SwitchNorm2d(CHANNELS, ghost=(1, 2)).eval()
    assert layer(torch.randn(5, CHANNELS, 3, 3)).shape == (5, CHANNELS, 3, 3)


def test_sizes_that_are_none_are_refused() -> None:
    x = torch.randn(5, CHANNELS, 3, 3)
    with pytest.raises(InputError, match="ghost batches of 3, 1 samples are 4 together, and the input has 5"):
        SwitchNorm2d(CHANNELS, ghost=(3, 1))(x)
    with pytest.raises(InputError, match="ghost batches of -1 samples are impossible; the nearest valid size is 0"):
        SwitchNorm2d(CHANNELS, ghost=(3, -1))
    with pytest.raises(InputError, match="ghost batches of no sizes are impossible; the nearest is None"):
        BatchNorm2d(CHANNELS).ghost = ()
    with pytest.raises(InputError, match="ghost batches and synchronised statistics exclude each other"):
        BatchNorm2d(CHANNELS, ghost=(3, 2), sync=True)


@pytest.mark.parametrize("kind", [BatchNorm2d, InstanceBatchNorm2d])
def test_a_group_of_one_value_is_refused_as_a_batch_of_one_is(kind: Any) -> None:
    x = torch.randn(4, CHANNELS, 1, 1)
    with pytest.raises(
        InputError, match=r"more than one element per channel, got input .* in ghost batches of 3, 0, 1"
    ):
        kind(CHANNELS, ghost=(3, 0, 1))(x)
    kind(CHANNELS, ghost=(4, 0))(x)


def test_a_layer_with_other_statistics_takes_groups_of_one_value() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, CHANNELS, 1, 1, dtype=torch.float64)
    plain = SwitchNorm2d(CHANNELS, ("layer", "batch")).double()
    parted = copy.deepcopy(plain)
    parted.ghost = (2, 1)
    torch.testing.assert_close(parted(x), by_loop(plain, x, (2, 1))[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compilers_take_partitions(backend: str) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    layer = SwitchNorm1d(CHANNELS, ghost=(2, 0, 3))
    x = torch.randn(5, CHANNELS, 6)
    expected = copy.deepcopy(layer)(x)
    torch.testing.assert_close(torch.compile(layer, backend=backend, fullgraph=True)(x), expected)
