"""A switchable layer's pass as one node: importance, normalization and running statistics, against the reference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers.norms import switch as layers
from switchnorm.layers.norms.sparse import SparseSwitchNorm1d, SparseSwitchNorm2d
from switchnorm.layers.norms.switch import SwitchNorm, SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from switchnorm.ops import kernel
from tests.ops.triton.launches import launches

C = 6


@pytest.fixture(autouse=True)
def _in_triton() -> Iterator[None]:
    with kernel("triton"):
        yield


@pytest.fixture
def at_once() -> Iterator[None]:
    """No layer may take the steps."""
    with mock.patch.object(layers, "normalize", side_effect=AssertionError("the layer took the steps")):
        yield


def sparse(
    radius: float, final: tuple[int, int] = (0, 0), kind: Any = SparseSwitchNorm2d, **options: Any
) -> SwitchNorm:
    layer = kind(C, **options)
    layer.radius.fill_(radius)
    layer.mean_fixed.fill_(final[0])
    layer.var_fixed.fill_(final[1])
    found: SwitchNorm = layer
    return found


#: Layers, shapes of their inputs, and what else a pass is given.
CASES: dict[str, tuple[Callable[[], SwitchNorm], tuple[int, ...], dict[str, Any]]] = {
    "sn": (lambda: SwitchNorm2d(C), (4, C, 5, 5), {}),
    "sn, long maps": (lambda: SwitchNorm2d(C, momentum=0.3), (3, C, 41, 60), {}),
    "sn, residual and relu": (lambda: SwitchNorm2d(C, activation="relu"), (4, C, 5, 3), {"add": True}),
    "sn, relu": (lambda: SwitchNorm2d(C), (4, C, 5, 3), {"activation": "relu"}),
    "sn, 4 statistics": (lambda: SwitchNorm2d(C, ("group:3", "batch", "layer", "instance")), (4, C, 4, 4), {}),
    "sn, ghosts": (lambda: SwitchNorm2d(C, ghost=2), (4, C, 3, 4), {}),
    "sn, ghosts without samples": (lambda: SwitchNorm2d(C, ghost=(2, 0, 2)), (4, C, 3, 4), {}),
    "sn, volumes": (lambda: SwitchNorm3d(C), (2, C, 3, 2, 4), {}),
    "sn, flat": (lambda: SwitchNorm1d(C), (7, C), {}),
    "sn, no affine": (lambda: SwitchNorm2d(C, affine=False), (4, C, 5, 5), {}),
    "sn, untracked": (lambda: SwitchNorm2d(C, track_running_stats=False), (4, C, 5, 5), {}),
    "sn, without batch": (lambda: SwitchNorm2d(C, ("layer", "instance")), (4, C, 5, 5), {}),
    "ssn": (lambda: sparse(0.3), (4, C, 5, 5), {}),
    "ssn, simplex": (lambda: sparse(0.5, centre="simplex"), (4, C, 5, 5), {}),
    "ssn, tied": (lambda: sparse(0.4, tied=True), (4, C, 5, 5), {"activation": "relu", "add": True}),
    "ssn, one final": (lambda: sparse(0.4, (1, 0)), (4, C, 5, 5), {}),
    "ssn, both final": (lambda: sparse(0.9, (1, 1)), (4, C, 5, 5), {}),
    "ssn, sparse": (lambda: sparse(1.0), (4, C, 5, 5), {}),
    "ssn, flat": (lambda: sparse(0.2, kind=SparseSwitchNorm1d), (7, C), {}),
}


def made(name: str) -> tuple[SwitchNorm, Tensor, dict[str, Any]]:
    make, shape, given = CASES[name]
    layer, given = make(), dict(given)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        for logits in (layer.mean_weight, layer.var_weight):
            logits.mul_(0.3)
        if layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    x = torch.randn(shape)
    if given.pop("add", False):
        given["residual"] = torch.randn(shape)
    return layer, x, given


def passed(layer: SwitchNorm, x: Tensor, given: dict[str, Any], dy: Tensor) -> dict[str, Tensor]:
    """Output, gradients and buffers of one pass forward and backward."""
    leaves = {"x": x.clone().requires_grad_()}
    if "residual" in given:
        leaves["residual"] = given["residual"].clone().requires_grad_()
    y = layer(leaves["x"], **{**given, **{k: t for k, t in leaves.items() if k != "x"}})
    y.backward(dy)
    found = {"y": y, **{f"gradient of {name}": t.grad for name, t in (*leaves.items(), *layer.named_parameters())}}
    return {name: t.detach() for name, t in found.items()} | {n: t.clone() for n, t in layer.named_buffers()}


def in_every_mode() -> Iterator[Any]:
    """Each case in training and in evaluation, in either memory format in turn; the sweep has the whole product."""
    for number, (name, (_, shape, _)) in enumerate(CASES.items()):
        formats = [torch.contiguous_format, *([torch.channels_last] if len(shape) == 4 else [])]
        for training, mode in ((True, "training"), (False, "evaluation")):
            for memory_format in formats:
                chosen = formats[(number + training) % len(formats)]
                marks = () if memory_format == chosen else (pytest.mark.sweep,)
                yield pytest.param(name, training, memory_format, id=f"{name}-{mode}-{memory_format}", marks=marks)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("name", "training", "memory_format"), [*in_every_mode()])
def test_it_is_the_reference(name: str, training: bool, memory_format: torch.memory_format) -> None:
    layer, x, given = made(name)
    x = x.contiguous(memory_format=memory_format)
    layer.train(training)
    dy = torch.randn_like(x)
    wide = copy.deepcopy(layer).double()
    ours = passed(layer, x, given, dy)
    with kernel("reference"), mock.patch.object(layers, "at_once", return_value=None), steps():
        given = {k: v.double() if isinstance(v, Tensor) else v for k, v in given.items()}
        theirs = passed(wide, x.double(), given, dy.double())
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        if key == "num_batches_tracked":
            assert ours[key] == expected
            continue
        scale = float(expected.abs().max()) + 1
        torch.testing.assert_close(ours[key].double(), expected.double(), rtol=0, atol=3e-5 * scale, msg=key)


def steps() -> Any:
    """Lets layers take the steps again."""
    from switchnorm.ops import normalize

    return mock.patch.object(layers, "normalize", normalize)


@pytest.mark.usefixtures("at_once")
def test_what_is_written_past_autograd_counts_as_written() -> None:
    layer, x, _ = made("ssn")
    buffers = [layer.running_mean, layer.running_var, layer.num_batches_tracked]
    before = [t._version for t in buffers if t is not None]
    layer(x)
    assert [t._version for t in buffers if t is not None] == [version + 1 for version in before]
    # Whoever needs what they were is told.
    assert layer.running_var is not None
    kept = layer.running_var.clone().requires_grad_().exp() * layer.running_var
    layer(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()


@pytest.mark.usefixtures("at_once")
def test_a_radius_that_moves_before_the_backward_pass_is_no_wrong_gradient() -> None:
    layer, x, _ = made("ssn")
    y = layer(x)
    layer.set_radius(0.9)  # type: ignore[operator]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", ["sn, residual and relu", "ssn", "sn, flat", "ssn, tied"])
def test_second_derivatives(name: str) -> None:
    layer, x, given = made(name)
    layer.double().eval()
    given = {k: v.double() if isinstance(v, Tensor) else v for k, v in given.items()}
    leaves = [x.double().requires_grad_(), *layer.parameters()]

    def second() -> list[Tensor]:
        y = layer(leaves[0], **given)
        first = torch.autograd.grad(y, leaves, torch.ones_like(y).cumsum(0), create_graph=True)
        total = torch.stack([each.square().sum() for each in first]).sum()
        return [*torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)]

    ours = second()
    with kernel("reference"), steps():
        theirs = second()
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("frozen", ["mean_weight", "var_weight", "weight", "bias", "x", "all but x"])
def test_only_what_is_learned_has_gradients(frozen: str) -> None:
    layer, x, _ = made("ssn")
    names = {"all but x": ["mean_weight", "var_weight", "weight", "bias"]}.get(frozen, [frozen])
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name not in names)
    x.requires_grad_(frozen != "x")
    layer(x).square().sum().backward()
    for name, t in (*layer.named_parameters(), ("x", x)):
        assert (t.grad is None) == (name in names)


def other(layer: SwitchNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    y = layer(x)
    assert layer.running_mean is not None
    return y, layer.running_mean.clone()


class Halved(SwitchNorm2d):
    """Another projection."""

    def _project(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        return (mean / 2).softmax(0), (var / 2).softmax(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SwitchNorm2d(C, ("group:2", "group:3", "batch")),
        lambda: SwitchNorm2d(C, ghost=(1, 3)),
        lambda: SwitchNorm2d(C, momentum=None),
        lambda: Halved(C),
    ],
    ids=["two groupings", "unequal parts", "average over all batches", "own projection"],
)
def test_what_is_no_case_for_it_takes_the_steps(make: Callable[[], SwitchNorm]) -> None:
    torch.manual_seed(3)
    layer = make()
    nn.init.normal_(layer.mean_weight)
    x, again = torch.randn(4, C, 3, 3), copy.deepcopy(layer)
    with mock.patch.object(layers, "normalize", wraps=layers.normalize) as normalize:
        found = other(layer, x)
    assert normalize.call_count == 1
    with kernel("reference"):
        torch.testing.assert_close(found, other(again, x))


@pytest.mark.usefixtures("at_once")
def test_errors() -> None:
    layer = SwitchNorm2d(C)
    with pytest.raises(InputError, match="a residual must have the input's shape"):
        layer(torch.randn(2, C, 3, 3), torch.randn(2, C, 3, 1))
    with pytest.raises(InputError, match="activation 'gelu' is unknown"):
        layer(torch.randn(2, C, 3, 3), activation="gelu")  # type: ignore[arg-type]
    layer.running_var = torch.ones(C, device="meta")
    with pytest.raises(InputError, match="an input on cpu meets parameters on meta"):
        layer(torch.randn(2, C, 3, 3))


@pytest.mark.usefixtures("at_once")
def test_inference_mode_moves_nothing_that_it_may_not() -> None:
    layer, x, _ = made("sn")
    expected = copy.deepcopy(layer)(x)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), expected.detach())
    with launches(run=False) as names:
        layer(x)
    assert names
