"""SwitchNorm's outputs and gradients: the published layers, dtypes, memory formats, and messages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm, SwitchNorm1d, SwitchNorm2d
from switchnorm.ops import normalize
from tests.layers.switch_norms import BOTH, SHAPES, random_layer, snapshot

pytestmark = pytest.mark.usefixtures("poisoned")

Golden = Callable[[str], dict[str, Tensor]]

PUBLISHED = [
    ("switch_norm_1d", SwitchNorm1d, ("layer", "batch"), 0.003),
    ("switch_norm_1d", SwitchNorm1d, ("instance", "layer", "batch"), 0.003),
    ("switch_norm_2d", SwitchNorm2d, ("instance", "layer", "batch"), 0.1),
    ("switch_norm_2d_without_bn", SwitchNorm2d, ("instance", "layer"), 0.1),
]


@pytest.mark.parametrize(("name", "kind", "statistics", "momentum"), PUBLISHED, ids=str)
def test_published(name: str, kind: type[SwitchNorm], statistics: Any, momentum: float, golden: Golden) -> None:
    record = golden(name)
    layer = kind(6, statistics, momentum=momentum).double()
    before = {key.removeprefix("before."): value for key, value in record.items() if key.startswith("before.")}
    given = dict(before)
    layer.load_state_dict(before, strict=True)
    assert before == given  # what was handed over is left alone
    x = record["x"].requires_grad_()
    y = layer(x)
    y.backward(record["dy"])
    exactly: dict[str, Any] = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(y, record["y_train"], **exactly)
    torch.testing.assert_close(x.grad, record["dx"], **exactly)
    for key, parameter in layer.named_parameters():
        expected = record[f"grad.{key}"].flatten()
        # Only a flat input's published layer has no instance statistic; its logit has no influence here.
        found = parameter.grad.flatten()
        torch.testing.assert_close(found[len(found) - len(expected) :], expected, **exactly)
        assert (found[: len(found) - len(expected)] == 0).all()
    for key, buffer in layer.named_buffers():
        if key != "num_batches_tracked":
            torch.testing.assert_close(buffer.flatten(), record[f"after.{key}"].flatten(), **exactly)
    torch.testing.assert_close(layer.eval()(x), record["y_eval"], **exactly)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", SHAPES)
def test_is_normalize_with_its_importance(kind: type[SwitchNorm], training: bool) -> None:
    layer = random_layer(kind, eps=1e-3).train(training)
    x = torch.randn(SHAPES[kind])
    importance = layer.importance()
    assert all(abs(weights.sum() - 1) < 1e-6 for weights in importance)
    running = None if training else (layer.running_mean.clone(), layer.running_var.clone())
    expected = normalize(
        x, layer.statistics, *importance, layer.weight, layer.bias, eps=1e-3, running=running
    )  # fmt: skip
    torch.testing.assert_close(layer(x), expected.y, rtol=0, atol=0)


def test_a_flat_input_shares_the_importance_of_the_instance_statistic() -> None:
    layer = random_layer(SwitchNorm1d)
    reduced = SwitchNorm1d(6, ("layer", "batch"))
    reduced.load_state_dict(
        snapshot(layer) | {name: getattr(layer, name).detach()[1:] for name in ("mean_weight", "var_weight")}
    )
    x = torch.randn(5, 6)
    torch.testing.assert_close(layer(x), reduced(x), rtol=0, atol=0)
    torch.testing.assert_close(layer.eval()(x), reduced.eval()(x), rtol=0, atol=0)
    with pytest.raises(InputError, match="has no instance statistic; add 'layer' or 'batch'"):
        SwitchNorm1d(6, ("instance",))(x)


@pytest.mark.parametrize("parameters", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inputs", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", BOTH)
def test_dtypes(kind: type[SwitchNorm], inputs: torch.dtype, parameters: torch.dtype) -> None:
    """y has x's dtype; gradients those of what they belong to; the result that of float64, rounded."""
    layer = random_layer(kind).to(parameters)
    x = torch.randn(4, 6, 5, 7).to(inputs).requires_grad_()
    y = layer(x)
    assert y.dtype == inputs
    assert all(buffer.dtype == parameters for name, buffer in layer.named_buffers() if name.startswith("running"))
    y.backward(torch.randn_like(y))
    assert x.grad is not None
    assert x.grad.dtype == inputs
    for parameter in layer.parameters():
        assert parameter.grad.dtype == parameters
        assert parameter.grad.isfinite().all()
    exact = copy.deepcopy(layer).double()(x.detach().double())
    eps = torch.finfo(inputs).eps
    # An ulp of the output; sparsestmax in float32 is good to about 1e-6, which float64 inputs see too.
    torch.testing.assert_close(y.double(), exact, rtol=2 * eps, atol=max(4 * eps, 5e-6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_of_half_inputs_are_kept_in_float32(dtype: torch.dtype) -> None:
    """A float32 layer's running statistics show it: 300 * 300 is beyond float16, and 300.3 between two of bfloat16."""
    layer = SwitchNorm2d(6, momentum=1.0)
    x = (300.3 + 100 * torch.randn(4, 6, 9, 9)).to(dtype)
    layer(x)
    assert layer.running_mean is not None
    torch.testing.assert_close(layer.running_mean, x.double().mean((0, 2, 3)).float(), rtol=1e-6, atol=0)
    assert layer.running_mean.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_autocast_changes_nothing(kind: type[SwitchNorm], training: bool, dtype: torch.dtype) -> None:
    plain = random_layer(kind).train(training)
    layer = copy.deepcopy(plain)
    x, dy = (torch.randn(4, 6, 5, 7).to(dtype) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == dtype
    expected = plain(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    y.backward(dy)
    expected.backward(dy)
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    torch.testing.assert_close(snapshot(layer), snapshot(plain), rtol=0, atol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_memory_format_and_gradients_follow_the_input(training: bool, memory_format: torch.memory_format) -> None:
    layer = random_layer().train(training)
    x = torch.randn(4, 6, 5, 7).to(memory_format=memory_format).requires_grad_()
    y = layer(x)
    assert y.is_contiguous(memory_format=memory_format)
    (dx,) = torch.autograd.grad(y, x, torch.randn_like(x))
    assert dx.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("kind", BOTH)
def test_second_derivatives(kind: type[SwitchNorm]) -> None:
    layer = random_layer(kind, 3).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    state = dict(layer.named_parameters())

    def y(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(state, values, strict=True)), x)

    assert torch.autograd.gradgradcheck(y, (x, *state.values()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SwitchNorm2d(6, ("instance", "bach")), "statistic 'bach' is unknown; did you mean 'batch'?"),
        (lambda: SwitchNorm2d(6, ("group:4", "batch")), "the nearest group counts are 3 or 6"),
        (lambda: SwitchNorm2d(6, ()), "statistics is empty; choose from"),
        (lambda: SwitchNorm2d(6, ghost=0), "ghost batches of 0 samples are impossible; the nearest valid size is 1"),
        (lambda: SwitchNorm2d(6, ghost=2, sync=True), "choose ghost or sync"),
        (lambda: SwitchNorm2d(6)(torch.ones(2, 6, 3)), "2d takes 4 dimensions with 6 channels, got (2, 6, 3)"),
        (lambda: SwitchNorm1d(6)(torch.ones(2, 5)), "SwitchNorm1d takes 2 or 3 dimensions with 6 channels, got (2, 5)"),
        (lambda: SwitchNorm2d(6, ("batch",))(torch.ones(1, 6, 1, 1)), "add 'instance', 'layer' or 'group:G'"),
    ],
)
def test_errors(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_repr() -> None:
    assert repr(SwitchNorm2d(6)) == (
        "SwitchNorm2d(6, statistics=('instance', 'layer', 'batch'), eps=1e-05, momentum=0.1)"
    )
    layer = SparseSwitchNorm2d(6, affine=False, track_running_stats=False, ghost=2)
    assert repr(layer).endswith("affine=False, track_running_stats=False, ghost=2, centre='support')")
    assert "sync=True" in repr(SwitchNorm2d(6, sync=True))
