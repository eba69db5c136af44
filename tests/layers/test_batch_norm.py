"""BatchNorm: torch's own, and under ghost batches torch's own on every part."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d

pytestmark = pytest.mark.usefixtures("poisoned")

PAIRS = [
    (BatchNorm1d, nn.BatchNorm1d, (7, 4)),
    (BatchNorm1d, nn.BatchNorm1d, (7, 4, 5)),
    (BatchNorm2d, nn.BatchNorm2d, (7, 4, 3, 5)),
    (BatchNorm3d, nn.BatchNorm3d, (7, 4, 2, 1, 3)),
]


def pair(kind: type[nn.Module], torch_kind: type[nn.Module], **options: Any) -> tuple[Any, Any]:
    ours = kind(4, **options).double()
    for tensor in (ours.weight, ours.bias, ours.running_mean):
        nn.init.normal_(tensor)
    options.pop("ghost", None)
    theirs = torch_kind(4, **options).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "torch_kind", "shape"), PAIRS)
def test_is_torch_without_options(kind: Any, torch_kind: Any, shape: tuple[int, ...], training: bool) -> None:
    ours, theirs = pair(kind, torch_kind)
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=0, atol=0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert isinstance(ours, torch_kind)


@pytest.mark.parametrize("ghost", [2, 3, 7, 9])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("kind", "torch_kind", "shape"), PAIRS)
def test_ghosts_are_torch_on_every_part(
    kind: Any, torch_kind: Any, shape: tuple[int, ...], momentum: float | None, ghost: int
) -> None:
    if len(shape) == 2 and shape[0] % ghost == 1:
        shape = (8, *shape[1:]) if ghost == 2 else (9, *shape[1:])  # torch refuses a part of one sample
    ours, theirs = pair(kind, torch_kind, momentum=momentum, ghost=ghost)
    x, dy = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    results, states = [], []
    for layers, parts in (([ours], [x]), ([copy.deepcopy(theirs) for _ in x.split(ghost)], x.split(ghost))):
        leaves = [part.clone().requires_grad_() for part in parts]
        y = torch.cat([layer(leaf) for layer, leaf in zip(layers, leaves, strict=True)])
        y.backward(dy)
        gradients = [torch.stack([getattr(la, n).grad for la in layers]).sum(0) for n in ("weight", "bias")]
        results.append((y, torch.cat([leaf.grad for leaf in leaves if leaf.grad is not None]), *gradients))
        # Running statistics are the mean over the parts.
        states.append([torch.stack([getattr(la, n) for la in layers]).mean(0) for n in ("running_mean", "running_var")])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(*states, rtol=1e-12, atol=1e-12)
    assert ours.num_batches_tracked == 1
    # Evaluation has no ghosts.
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=0)


def test_without_affine_and_running_statistics() -> None:
    layer = BatchNorm2d(4, affine=False, track_running_stats=False, ghost=2)
    x = torch.randn(4, 4, 3, 3)
    theirs = nn.BatchNorm2d(4, affine=False, track_running_stats=False)
    torch.testing.assert_close(layer(x), torch.cat([theirs(part) for part in x.split(2)]))
    torch.testing.assert_close(layer.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("ghost", [None, 2])
@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)])
def test_an_empty_batch_leaves_no_running_statistics(shape: tuple[int, ...], ghost: int | None) -> None:
    layer = BatchNorm2d(4, ghost=ghost)
    y = layer(torch.empty(shape, requires_grad=True))
    assert y.shape == shape
    y.sum().backward()
    assert torch.equal(layer.running_mean, torch.zeros(4))
    assert torch.equal(layer.running_var, torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ghost", [None, 2])
def test_dtypes_and_autocast(ghost: int | None, dtype: torch.dtype) -> None:
    layer = BatchNorm2d(4, ghost=ghost)
    x = torch.randn(4, 4, 3, 3).to(dtype).to(memory_format=torch.channels_last)
    y = layer(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert layer.running_mean.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == dtype


def test_compiles_as_one_graph() -> None:
    torch.compiler.reset()
    layer = BatchNorm2d(4, ghost=2)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 4, 3, 3)
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("options", "x", "message"),
    [
        ({"ghost": 0}, None, "the nearest valid size is 1"),
        ({"ghost": 2, "sync": True}, None, "choose ghost or sync"),
        ({"ghost": 1}, torch.ones(3, 4), "more than one element per channel"),
        ({"ghost": 2}, torch.ones(3, 4), "more than one element per channel"),
    ],
)
def test_errors(options: dict[str, Any], x: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        BatchNorm1d(4, **options)(x)
    assert "\n" not in str(error.value)


def test_repr() -> None:
    assert "ghost=2" in repr(BatchNorm2d(4, ghost=2))
    assert "sync=True" in repr(BatchNorm2d(4, sync=True))
    assert repr(BatchNorm2d(4)) == repr(nn.BatchNorm2d(4))
