"""How much a layer gives the device to do: kernels of Triton, and whatever other operations run beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import switchnorm
from switchnorm.layers.norms import decided
from switchnorm.layers.norms.sparse import SparseSwitchNorm2d
from switchnorm.layers.norms.switch import SwitchNorm2d
from switchnorm.ops import kernel
from switchnorm.ops.kernels import choice
from tests.ops.triton.launches import launches

#: Operations that only allocate, or look at memory in another way: no kernel is launched for them.
_SILENT = {
    "alias",
    "as_strided",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "expand",
    "new_empty",
    "new_empty_strided",
    "permute",
    "select",
    "slice",
    "split",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unsqueeze",
    "view",
    "_unsafe_view",
}


class _Operations(TorchDispatchMode):
    """Writes down the names of operations that launch something."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        if name not in _SILENT:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def launched() -> Iterator[list[str]]:
    """Names of all that is launched inside; kernels of Triton do not run."""
    names: list[str] = []
    seen = mock.patch.object(choice, "is_in_torch_dispatch_mode", return_value=False)
    with kernel("triton"), seen, launches(run=False, names=names), _Operations(names):
        yield names


def step(layer: nn.Module, x: Tensor, **given: Any) -> list[str]:
    """What a training step of a layer launches, the second time."""
    x = x.clone().requires_grad_()
    dy = torch.randn_like(layer(x, **given))
    for _ in range(2):
        for t in (x, *layer.parameters()):
            t.grad = None
        with launched() as names:
            layer(x, **given).backward(dy)
    return names


def evaluation(layer: nn.Module, x: Tensor) -> list[str]:
    """What an evaluation launches, the second time; what was decided is known as on CUDA, by versions."""
    layer.eval()
    with torch.inference_mode(), mock.patch.object(decided, "_state", decided._versions):
        for _ in range(2):
            with launched() as names:
                layer(x)
    return names


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "sn": lambda: SwitchNorm2d(64),
    "ssn": lambda: SparseSwitchNorm2d(64),
    "ssn, tied, relu": lambda: SparseSwitchNorm2d(64, tied=True, activation="relu"),
    "sn, ghosts": lambda: SwitchNorm2d(64, ghost=2),
}
SHAPES = pytest.mark.parametrize("shape", [(4, 64, 14, 14), (2, 64, 4, 4)], ids=str)


@SHAPES
@pytest.mark.parametrize("name", LAYERS)
def test_a_training_step_launches_at_most_2_more_than_batch_norm(name: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    plain = step(nn.BatchNorm2d(64), x)
    assert len(plain) == 3  # forward, counter, backward
    ours = step(LAYERS[name](), x)
    assert len(ours) <= len(plain) + 2, ours
    assert all(each.endswith("_kernel") for each in ours), ours


@SHAPES
def test_addition_and_relu_are_inside(shape: tuple[int, ...]) -> None:
    x, residual = torch.randn(shape), torch.randn(shape)
    ours = step(SwitchNorm2d(64), x, residual=residual, activation="relu")
    assert len(ours) <= 4
    assert all(each.endswith("_kernel") for each in ours), ours


@SHAPES
@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_launches_nothing_for_the_importance(name: str, shape: tuple[int, ...]) -> None:
    names = evaluation(LAYERS[name](), torch.randn(shape))
    assert names in (["moments_kernel", "normalize_kernel"], ["resident_normalize_kernel"])


@pytest.mark.parametrize("shape", [(4, 64, 14, 14), (2, 64, 100, 100)], ids=str)
def test_a_layer_that_chose_the_batch_statistic_takes_no_moments(shape: tuple[int, ...]) -> None:
    layer = SparseSwitchNorm2d(64)
    layer.set_importance((0, 0, 1), (0, 0, 1))
    layer.set_radius(1)
    assert evaluation(layer, torch.randn(shape)) in (["normalize_kernel"], ["resident_normalize_kernel"])


@pytest.mark.parametrize("name", ["sn", "ssn"])
def test_a_resnet_launches_at_most_2_more_for_a_layer(name: str) -> None:
    """All of ResNet-50, whose maps are tiny here."""
    torchvision = pytest.importorskip("torchvision")
    x = torch.randn(2, 3, 64, 64)
    counts = {}
    for norm in ("bn", name):
        model = torchvision.models.resnet50()
        layers = sum(isinstance(each, nn.BatchNorm2d) for each in model.modules())
        assert layers == 53
        if norm != "bn":
            model = switchnorm.switch(model, norm)
        trained = step(model, x)
        counts[norm] = len(trained), len(evaluation(model, x))
    assert counts[name][0] <= counts["bn"][0] + 2 * 53
    assert counts[name][1] <= counts["bn"][1] + 53
