"""Convolutions with weight standardization: torch's own with other weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import WSConv1d, WSConv2d, WSConv3d
from switchnorm.ops import standardize_weight

pytestmark = pytest.mark.usefixtures("poisoned")

PAIRS = [(WSConv1d, nn.Conv1d, 1), (WSConv2d, nn.Conv2d, 2), (WSConv3d, nn.Conv3d, 3)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"padding": 1, "bias": False},
    {"groups": 2, "stride": 2},
    {"groups": 4, "dilation": 2, "padding": 2},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": "same"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("kind", "torch_kind", "dims"), PAIRS)
def test_is_torch_with_standardized_weights(kind: Any, torch_kind: Any, dims: int, options: dict[str, Any]) -> None:
    ours, theirs = kind(4, 8, 3, **options), torch_kind(4, 8, 3, **options)
    theirs.load_state_dict(ours.state_dict())
    before = ours.weight.detach().clone()
    with torch.no_grad():
        theirs.weight.copy_(standardize_weight(theirs.weight))
    x = torch.randn(2, 4, *(6,) * dims)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    assert torch.equal(ours.weight, before)
    assert isinstance(ours, torch_kind)


@pytest.mark.parametrize("name", ["weight_standardized_conv2d", "weight_standardized_conv2d_grouped"])
def test_published(name: str, golden: Callable[[str], dict[str, Tensor]]) -> None:
    record = golden(name)
    options = {key: int(record[key]) for key in ("stride", "padding", "dilation", "groups")}
    x = record["x"].requires_grad_()
    layer = WSConv2d(x.shape[1], len(record["weight"]), record["weight"].shape[2:], **options).double()
    layer.load_state_dict({"weight": record["weight"], "bias": record["bias"]})
    y = layer(x)
    y.backward(record["dy"])
    found = {"y": y, "dx": x.grad, "dweight": layer.weight.grad, "dbias": layer.bias.grad}
    for key, value in found.items():
        torch.testing.assert_close(value, record[key], rtol=0, atol=1e-9)


def test_autocast_and_compilation() -> None:
    torch.compiler.reset()
    layer = WSConv2d(4, 8, 3)
    x = torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_a_single_weight_per_output_is_refused() -> None:
    with pytest.raises(InputError, match="use a larger kernel, fewer groups or a plain convolution") as error:
        WSConv2d(4, 4, 1, groups=4)
    assert "\n" not in str(error.value)
    WSConv2d(4, 4, 1)
    WSConv2d(4, 4, 3, groups=4)
