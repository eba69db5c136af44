"""Every layer as PyTorch's own module tests see theirs: how it is made, and what it is called with.

The names are those of torch.testing's machinery for these tests, which is not imported: it needs packages of its own.
A normalizer that is registered brings its cases with it: its dimensions, and each setting that its layers take.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.layers import Norm, WSConv1d, WSConv2d, WSConv3d, all_norms

CHANNELS = 4
#: By spatial dimensions; 0 is a flat input.
SHAPES = {0: (5, CHANNELS), 1: (3, CHANNELS, 5), 2: (3, CHANNELS, 3, 2), 3: (2, CHANNELS, 2, 1, 3)}
#: Settings that are tried on their own, where a layer takes them.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"ghost": 2},
    {"affine": False},
    {"track_running_stats": False},
    {"momentum": None},
    {"activation": "relu"},
)


@dataclass(frozen=True)
class FunctionInput:
    """Arguments of one call."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModuleInput:
    """Arguments of a constructor, and those of its forward pass."""

    constructor_input: FunctionInput
    forward_input: FunctionInput


@dataclass(frozen=True)
class ModuleInfo:
    """A layer under test.

    Attributes:
        name: of the case.
        make: called with the arguments of `ModuleInput.constructor_input`.
        shape: of its input.
        options: of its constructor.
        norm: the normalizer that it belongs to; None for convolutions.
        residual: whether it is called with one.
        still: whether it also has to be told to let its running statistics be, which normalize in training too and are
            constants to the gradient.
    """

    name: str
    make: Callable[..., nn.Module]
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    norm: Norm | None = None
    residual: bool = False
    still: bool = False

    def module_input(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> ModuleInput:
        """The arguments, with fresh random inputs."""
        count = 2 if self.residual else 1
        inputs = tuple(torch.randn(self.shape, dtype=dtype, device=device) for _ in range(count))
        factory = {"device": device, "dtype": dtype}
        return ModuleInput(FunctionInput(kwargs=self.options | factory), FunctionInput(inputs))

    def module(self, dtype: torch.dtype = torch.float64, training: bool = True) -> nn.Module:
        """A layer with all parameters and buffers away from their defaults."""
        module = self.make(**self.options, dtype=dtype)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape))
            for name, buffer in module.named_buffers():
                if name.endswith("running_mean"):
                    buffer.copy_(torch.randn(buffer.shape))
                elif name.endswith("running_var"):
                    buffer.copy_(torch.rand(buffer.shape) + 0.5)
        if self.norm is not None and self.norm.sparse:
            module.set_radius(0.3)  # type: ignore[operator]
        return module.train(training)

    def second_gradients_at_once(self) -> AbstractContextManager[Any]:
        """Within it, gradients are differentiated in many directions at once; expects an error where torch has one."""
        if self.norm is None or self.norm.name not in ("gn", "ln", "in") or _group_norm_has_them():
            return nullcontext()
        return pytest.raises(RuntimeError, match="must match the size of tensor")

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Arguments of a forward pass."""
        return self.module_input(dtype).forward_input.args


@functools.cache
def _group_norm_has_them() -> bool:
    """Whether torch's own group normalization has second gradients at once, which it has not in torch 2.8 to 2.11."""
    x = torch.randn(2, 4, 3, requires_grad=True)
    (once,) = torch.autograd.grad(F.group_norm(x, 2).sin().sum(), x, create_graph=True)
    try:
        torch.autograd.grad(once, x, torch.randn(5, *x.shape), is_grads_batched=True)
    except RuntimeError:
        return False
    return True


def _of_norm(norm: Norm) -> Iterator[ModuleInfo]:
    flat = norm.layers.keys() & {1} and norm.batch_statistics is not False
    for dims in ({0} if flat else set()) | set(norm.layers):
        layers = max(dims, 1)
        takes = norm.takes(layers)
        settings: list[dict[str, Any]] = [dict(norm.flat) if dims == 0 else {}]
        if dims == 2:
            settings += [each for each in SETTINGS if set(each) <= set(takes.names)]
        for each in settings:

            def make(layers: int = layers, **options: Any) -> nn.Module:
                return norm.layer(CHANNELS, layers, **options)

            words = ["flat" if dims == 0 else f"{dims}d", *(f"{key}={value}" for key, value in each.items())]
            residual = "activation" in each and norm.fuses
            name = f"{norm.name} {' '.join(words)}"
            yield ModuleInfo(name, make, SHAPES[dims], each, norm, residual, still=norm.name == "bcn")


def _convolutions() -> Iterator[ModuleInfo]:
    for dims, kind in enumerate((WSConv1d, WSConv2d, WSConv3d), 1):

        def make(kind: Any = kind, **options: Any) -> nn.Module:
            module: nn.Module = kind(CHANNELS, 2, 2 if kind is not WSConv3d else (2, 1, 2), **options)
            return module

        yield ModuleInfo(f"ws {dims}d", make, SHAPES[dims])


#: All cases.
module_db: list[ModuleInfo] = [*(info for norm in all_norms() for info in _of_norm(norm)), *_convolutions()]
