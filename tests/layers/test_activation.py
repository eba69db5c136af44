"""A residual and an activation after normalizing, by every layer; and GroupNorm, which is torch's but for these."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    SparseSwitchNorm1d,
    SparseSwitchNorm2d,
    SparseSwitchNorm3d,
    SwitchNorm1d,
    SwitchNorm2d,
    SwitchNorm3d,
)
from switchnorm.ops import kernel

pytestmark = pytest.mark.usefixtures("poisoned")

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    **{f"sn {len(shape) - 2}d": (kind, shape) for kind, shape in (
        (SwitchNorm1d, (4, 6, 7)), (SwitchNorm2d, (4, 6, 5, 7)), (SwitchNorm3d, (3, 6, 2, 3, 2)))},
    **{f"ssn {len(shape) - 2}d": (kind, shape) for kind, shape in (
        (SparseSwitchNorm1d, (4, 6, 7)), (SparseSwitchNorm2d, (4, 6, 5, 7)), (SparseSwitchNorm3d, (3, 6, 2, 3, 2)))},
    **{f"bn {len(shape) - 2}d": (kind, shape) for kind, shape in (
        (BatchNorm1d, (4, 6, 7)), (BatchNorm2d, (4, 6, 5, 7)), (BatchNorm3d, (3, 6, 2, 3, 2)))},
    "sn flat": (SwitchNorm1d, (5, 6)),
    "bn flat": (BatchNorm1d, (5, 6)),
    "bn ghost": (lambda c, **options: BatchNorm2d(c, ghost=2, **options), (4, 6, 5, 7)),
    "gn": (lambda c, **options: GroupNorm(3, c, **options), (4, 6, 5, 7)),
}  # fmt: skip
EVERY = pytest.mark.parametrize("name", LAYERS)


def make(name: str, **options: Any) -> tuple[Any, Tensor]:
    kind, shape = LAYERS[name]
    layer = kind(6, **options).double()
    for parameter in (layer.weight, layer.bias):
        nn.init.normal_(parameter)
    return layer, torch.randn(shape, dtype=torch.float64)


def results(y: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    cotangent = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    return [y.detach().clone(), *torch.autograd.grad(y, leaves, cotangent)]


@pytest.mark.parametrize("path", ["reference", "cpu"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@EVERY
def test_is_the_sum_and_relu_after_the_layer(name: str, residual: bool, training: bool, path: str) -> None:
    plain, x = make(name)
    fused = copy.deepcopy(plain)
    fused.activation = "relu"
    leaves = [x, torch.randn_like(x)][: 1 + residual]
    found = []
    with kernel(path):
        for layer in (plain.train(training), fused.train(training)):
            inputs = [leaf.clone().requires_grad_() for leaf in leaves]
            if layer is fused:
                y = layer(*inputs)
            else:
                y = layer(inputs[0])
                y = torch.relu(y + inputs[1] if residual else y)
            found.append(results(y, [*inputs, *layer.parameters()]))
            for before, leaf in zip(leaves, inputs, strict=True):
                assert torch.equal(before, leaf)
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fused.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert (found[0][0] == 0).any()
    assert (found[0][0] > 0).any()


@EVERY
def test_a_residual_without_activation_and_an_activation_for_one_call(name: str) -> None:
    layer, x = make(name)
    layer.eval()
    residual = torch.randn_like(x)
    torch.testing.assert_close(layer(x, residual), layer(x) + residual)
    torch.testing.assert_close(layer(x, None, "relu"), layer(x).relu())
    torch.testing.assert_close(layer(x, residual, "relu"), (layer(x) + residual).relu())
    assert layer.activation is None


@EVERY
def test_vmap_over_residuals_alone(name: str) -> None:
    layer, x = make(name)
    layer.eval()
    residuals = torch.randn(3, *x.shape, dtype=x.dtype)
    found = torch.vmap(lambda residual: layer(x, residual))(residuals)
    torch.testing.assert_close(found, layer(x) + residuals)


@EVERY
def test_the_activation_is_shown_and_copied(name: str) -> None:
    layer, x = make(name, activation="relu")
    assert "activation='relu'" in repr(layer)
    assert "activation" not in repr(make(name)[0])
    assert list(layer.state_dict()) == list(make(name)[0].state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.activation == "relu"
        assert (other.eval()(x) >= 0).all()


@EVERY
def test_errors(name: str) -> None:
    with pytest.raises(InputError, match="activation 'rely' is unknown; did you mean 'relu'"):
        make(name, activation="rely")
    layer, x = make(name)
    with pytest.raises(InputError, match="activation 'silu' is unknown"):
        layer(x, None, "silu")
    for training in (True, False):
        with pytest.raises(InputError, match="a residual must have the input's shape") as error:
            layer.train(training)(x, x[:1])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [BatchNorm2d, lambda c, **options: GroupNorm(3, c, **options)])
def test_half_precision_and_memory_format(kind: Any) -> None:
    layer = kind(6, activation="relu")
    x = torch.randn(4, 6, 5, 5).bfloat16().to(memory_format=torch.channels_last)
    y = layer(x, x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", [{}, {"eps": 1e-3}, {"affine": False}], ids=str)
def test_group_norm_is_that_of_torch(options: dict[str, Any]) -> None:
    ours, theirs = GroupNorm(3, 6, **options), nn.GroupNorm(3, 6, **options)
    if ours.affine:
        nn.init.normal_(ours.weight)
        nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    assert isinstance(ours, nn.GroupNorm)
    assert repr(ours) == repr(theirs)
    for x in (torch.randn(2, 6), torch.randn(2, 6, 3), torch.randn(2, 6, 3, 4), torch.randn(2, 6, 1, 2, 3)):
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


@EVERY
def test_compiles_as_one_graph(name: str) -> None:
    torch.compiler.reset()
    layer, x = make(name, activation="relu")
    plain = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, x), plain(x, x))
