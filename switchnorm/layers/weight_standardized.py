"""Convolutions with weight standardization: Qiao et al., "Micro-Batch Training with ... Weight Standardization"."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.layers.folding import check_reader
from switchnorm.layers.opaque import Opaque
from switchnorm.ops import standardize_weight
from switchnorm.ops.kernels.base import is_capturing
from switchnorm.ops.kernels.choice import needs_plain_operations
from switchnorm.ops.normalize import check_input

#: How many weights are compared with what they were, see `Kept`.
SAMPLE = 64


def fan_in(conv: _ConvNd) -> int:
    """How many weights make one output of a convolution."""
    return conv.weight[0].numel()


class Kept(NamedTuple):
    """A standardized weight, and what tells whether it still is that of a parameter.

    Attributes:
        standardized: made outside of inference mode, so that it may be used everywhere.
        source: shares the parameter's memory, so that nothing else can come to lie at its address.
        state: see `_state`.
        sampled: some of the weights, in the parameter's memory. None on other devices than the CPU, where reading them
            would wait for the device.
        sample: what they were. Writing through `weight.data` or NumPy leaves no other trace.
    """

    standardized: Tensor
    source: Tensor
    state: tuple[Any, ...]
    sampled: Tensor | None
    sample: Tensor | None

    @classmethod
    def of(cls, weight: Tensor) -> Kept:
        """Standardize a parameter for which `may_be_kept`."""
        with torch.inference_mode(False), torch.no_grad():
            source = weight.detach()
            sampled = None if weight.is_cuda else _sample(source)
            sample = None if sampled is None else sampled.clone()
            return cls(standardize_weight(weight), source, _state(weight), sampled, sample)

    def holds(self, weight: Tensor) -> bool:
        """Whether this is the standardization of that parameter as it is now."""
        if self.state != _state(weight):
            return False
        return self.sampled is None or self.sample is None or torch.equal(self.sampled, self.sample)


def may_be_kept(weight: Tensor) -> bool:
    """Whether a standardized weight can be used again until the weight changes, and a change will be noticed.

    Not where gradients flow into it; where operations are compiled, traced, transformed or intercepted; where the
    weight is made by something else than an optimizer (as parametrizations do), belongs to several processes, or has no
    version (inference tensors). On CUDA a change through `weight.data` cannot be noticed, so that there only inference
    mode, in which no teacher of another network runs, keeps it; a CUDA graph must read the weight itself.
    """
    if needs_plain_operations(weight) or type(weight) is not nn.Parameter or weight.is_inference():
        return False
    if weight.requires_grad and torch.is_grad_enabled():
        return False
    if weight.is_cuda:
        return torch.is_inference_mode_enabled() and not is_capturing(weight)
    return weight.device.type == "cpu" and not weight.is_shared()


def _state(weight: Tensor) -> tuple[Any, ...]:
    """What differs after any change to a parameter that PyTorch sees; and the stream on which a copy is ready."""
    stream = torch.cuda.current_stream(weight.device) if weight.is_cuda else None
    return weight.data_ptr(), weight._version, weight.dtype, weight.device, weight.shape, weight.stride(), stream


def _sample(weight: Tensor) -> Tensor:
    """The first weight of up to about `SAMPLE` channels."""
    return weight.movedim(0, -1)[(0,) * (weight.dim() - 1)][:: -(-len(weight) // SAMPLE)]


class _WSConv(Opaque, _ConvNd):
    """A convolution with each output channel's weights standardized; arguments as torch.nn's.

    In evaluation, where no gradient is needed, the standardized weight is kept until the weight changes. It is no part
    of the state dict, of copies and of pickles. Writing through `weight.data` is noticed only where it changes one of
    about `SAMPLE` weights, and on CUDA not at all in inference mode: call `eval()` after it.

    The weight is not what the convolution multiplies by, so that no normalization and no branch can be folded into it.
    Functions that read it to do so raise, see `switchnorm.layers.folding.check_reader` for what is seen.

    Raises:
        InputError: one input channel per group and a kernel of 1, whose standardized weight would always be 0; a fuser
            that reads the weight.
    """

    # On the class, since surgery makes these of plain convolutions without running a constructor.
    _kept: ClassVar[Kept | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if fan_in(self) == 1:
            raise InputError(
                f"a kernel of 1 with {self.groups} groups of one channel has a single weight per output, which cannot "
                "be standardized; use a larger kernel, fewer groups or a plain convolution"
            )

    def __getattr__(self, name: str) -> Any:
        # What the layer itself reads does not come here, nor what optimizers, checkpoints and compilers do.
        if name == "weight":
            check_reader(self, sys._getframe(1).f_code)
        return super().__getattr__(name)

    def forward(self, input: Tensor) -> Tensor:
        check_input(input)
        return self._conv_forward(input, self._standardized(), self.bias)

    def _own_weight(self) -> Tensor:
        """The weight as the layer itself reads it: past `__getattr__`."""
        if "weight" not in self._parameters:  # parametrized, pruned, sharded
            return self.weight
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    def _standardized(self) -> Tensor:
        weight = self._own_weight()
        if torch.compiler.is_compiling():
            return standardize_weight(weight)
        if self.training or not may_be_kept(weight):
            self._drop()
            return standardize_weight(weight)
        kept = self._kept
        if kept is None or not kept.holds(weight):
            kept = Kept.of(weight)
            self.__dict__["_kept"] = kept
        return kept.standardized

    def _drop(self) -> None:
        """Forget the standardized weight."""
        self.__dict__.pop("_kept", None)

    def train(self, mode: bool = True) -> Any:
        """As `torch.nn.Module.train`; also where the mode stays, the standardized weight is made anew."""
        self._drop()
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._drop()
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


class WSConv1d(_WSConv, nn.Conv1d):
    """torch.nn.Conv1d with standardized weights."""


class WSConv2d(_WSConv, nn.Conv2d):
    """torch.nn.Conv2d with standardized weights."""


class WSConv3d(_WSConv, nn.Conv3d):
    """torch.nn.Conv3d with standardized weights."""


#: Plain convolutions, and those with standardized weights, by the number of spatial dimensions.
CONV: dict[int, type[_ConvNd]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
WS_CONV: dict[int, type[_ConvNd]] = {1: WSConv1d, 2: WSConv2d, 3: WSConv3d}
