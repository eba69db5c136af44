"""The layers under test: ours and torch's, each with what it is held against, its inputs and its calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.agreement import TOLERANCES, require_agreement
from benchmarks.measure import Call
from benchmarks.memory import peak_bytes, saved_bytes
from benchmarks.shapes import Shape
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.ops import kernel

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
GROUPS = 32
LOGITS = ("mean_weight", "var_weight")
#: Running statistics in evaluation: where they may lie.
RUNNING = {"running_mean": (-1.0, 1.0), "running_var": (0.5, 2.0)}
#: Of SparsestMax; from 0.41 on a choice among three may be final.
RADIUS = 0.3
#: The gradients of mixing logits are sums, over channels, of numbers as large as those in the gradient of the weight.
SIZED_AS = {f"gradient of {logits}": "gradient of weight" for logits in LOGITS}


class Inputs(NamedTuple):
    """What goes through a layer forth and back."""

    x: Tensor
    residual: Tensor
    dy: Tensor


@dataclass(frozen=True)
class Layer:
    """A normalization under test.

    Attributes:
        build: makes it for a number of channels.
        plain: makes the layer of the same parameters and running statistics with nothing fused into it, the truth in
            float64; where None, `build`.
        rival: torch's layer for the same job; "" for torch's own.
        add, relu: what follows the normalization.
        fused: whether the layer itself does that, instead of operations behind it.
        path: "reference" or "compiled" instead of the usual path.
        one_dtype: whether its parameters must have the input's dtype.
        hardened: whether it has chosen the batch statistic for good.
    """

    build: Callable[[int], nn.Module]
    rival: str = ""
    plain: Callable[[int], nn.Module] | None = None
    add: bool = False
    relu: bool = False
    fused: bool = False
    path: str = ""
    one_dtype: bool = False
    hardened: bool = False

    def floor(self) -> tuple[int, int]:
        """How often a tensor of x's size must be read or written, forward and backward.

        Forward: x for the moments, x again, y; and the residual. Backward: x and dy for the sums, both again, dx.
        ReLU's mask follows from x and tables; after an addition y is read with the sums, and the masked dy, which is
        the residual's gradient, is written then and read in place of dy.
        """
        return (4, 7) if self.add else (3, 5)


def _sparse(channels: int) -> nn.Module:
    layer = SparseSwitchNorm2d(channels)
    layer.set_radius(RADIUS)
    return layer


def _single(statistic: str) -> Callable[[int], nn.Module]:
    return lambda channels: SwitchNorm2d(channels, (statistic,))


def _fused(channels: int) -> nn.Module:
    return SwitchNorm2d(channels, activation="relu")


THEIRS = {
    "BatchNorm2d": Layer(nn.BatchNorm2d),
    "InstanceNorm2d": Layer(lambda channels: nn.InstanceNorm2d(channels, affine=True)),
    "GroupNorm": Layer(lambda channels: nn.GroupNorm(GROUPS, channels), one_dtype=True),
    "BatchNorm2d + ReLU": Layer(nn.BatchNorm2d, relu=True),
    "BatchNorm2d + add + ReLU": Layer(nn.BatchNorm2d, add=True, relu=True),
}
OURS = {
    "SN": Layer(SwitchNorm2d, "BatchNorm2d"),
    "SSN": Layer(_sparse, "BatchNorm2d"),
    "SN, batch only": Layer(_single("batch"), "BatchNorm2d"),
    "SN, instance only": Layer(_single("instance"), "InstanceNorm2d"),
    "SN, group only": Layer(_single(f"group:{GROUPS}"), "GroupNorm"),
    "SN, ghosts of 2": Layer(lambda channels: SwitchNorm2d(channels, ghost=2), "BatchNorm2d"),
    "SN + ReLU": Layer(_fused, "BatchNorm2d + ReLU", SwitchNorm2d, relu=True, fused=True),
    "SN + add + ReLU": Layer(_fused, "BatchNorm2d + add + ReLU", SwitchNorm2d, add=True, relu=True, fused=True),
    "SSN, all batch": Layer(_sparse, "BatchNorm2d", hardened=True),
    "SN, reference": Layer(SwitchNorm2d, "BatchNorm2d", path="reference"),
    "SN, compiled": Layer(SwitchNorm2d, "BatchNorm2d", path="compiled"),
}
LAYERS = THEIRS | OURS
#: What is timed in evaluation too.
EVALUATED = ("BatchNorm2d", "SN", "SSN", "SSN, all batch")


def make_inputs(shape: Shape, layout: str, dtype: torch.dtype, device: str, seed: int) -> Inputs:
    """Maps with deviations from 0.5 to 2 and means up to two deviations, as convolutions make them, and random dy."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=device)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((*shape[:2], 1, 1), generator=generator, device=device)

    x = normal(*shape).add_(uniform(-2, 2)).mul_(uniform(0.5, 2))
    tensors = (t.to(dtype).contiguous(memory_format=LAYOUTS[layout]) for t in (x, normal(*shape), normal(*shape)))
    return Inputs(*tensors)


class Subject:
    """A layer with inputs to run it on.

    Args:
        layer: its name, among `LAYERS`.
        inputs: one set of inputs or several, which calls take in turn.
        trains: whether the layer is in training mode.
    """

    def __init__(self, layer: str, inputs: Sequence[Inputs], trains: bool = True) -> None:
        self.definition = LAYERS[layer]
        self.inputs = inputs[0]
        self.turns = itertools.cycle(inputs)
        first = self.inputs.x
        torch.manual_seed(0)
        self.layer = self.definition.build(first.shape[1]).to(first.device)
        with torch.no_grad():
            for name, parameter in self.layer.named_parameters():
                # Mixing logits stay near each other: the gradient of a choice made is 0, and agrees with nothing.
                parameter.normal_(std=0.1 if name in LOGITS else 1)
            if not trains:
                for name, running in self.layer.named_buffers():
                    if name in RUNNING:
                        running.uniform_(*RUNNING[name])
            if self.definition.hardened:
                _choose_batch(self.layer)
        self.layer.train(trains)
        if self.definition.one_dtype:
            self.layer.to(first.dtype)
        self.call = torch.compile(self.layer, dynamic=False) if self.definition.path == "compiled" else self.layer
        for x, residual, _ in inputs:
            x.requires_grad_()
            residual.requires_grad_()

    def forward(self) -> Tensor:
        """The forward pass in training, ready for a backward pass."""
        return self.y(next(self.turns))

    def training(self) -> dict[str, Tensor | None]:
        """Forward, and backward to every input and parameter."""
        inputs = next(self.turns)
        return self._gradients(inputs, inputs.dy)

    @torch.inference_mode()
    def evaluation(self) -> Tensor:
        """The forward pass where no backward pass follows."""
        return self.y(next(self.turns))

    @cached_property
    def facts(self) -> dict[str, float]:
        """Bytes kept for the backward pass, and the most held at a time in forward and backward."""
        given = (self.inputs.x, self.inputs.residual, *self.layer.parameters(), *self.layer.buffers())
        return {
            "saved_bytes": saved_bytes(lambda: self.y(self.inputs), given),
            "peak_bytes": peak_bytes(self.training, self.inputs.x.device),
        }

    @cached_property
    def agreed(self) -> bool:
        """True once y and every gradient agreed with the reference in float64; raises `MismatchError` otherwise."""
        inputs = self.inputs
        truth, certain = self._truth(inputs)
        if not self.layer.training:
            require_agreement({"y": self.evaluation()}, {"y": truth.y}, TOLERANCES[inputs.x.dtype])
            return True
        dy = inputs.dy if certain is None else inputs.dy * certain
        found = {"y": self.y(inputs), **self._gradients(inputs, dy)}
        expected = {"y": truth.y, **truth.gradients(dy.double())}
        require_agreement(found, expected, TOLERANCES[inputs.x.dtype], SIZED_AS)
        return True

    def y(self, inputs: Inputs) -> Tensor:
        """The layer's output, with whatever follows the normalization."""
        how = self.definition
        with kernel("reference") if how.path == "reference" else nullcontext():
            if how.fused:
                return self.call(inputs.x, inputs.residual) if how.add else self.call(inputs.x)
            y: Tensor = self.call(inputs.x)
        if how.add:
            y += inputs.residual  # In place, as torchvision's networks do.
        return y.relu_() if how.relu else y

    def _gradients(self, inputs: Inputs, dy: Tensor) -> dict[str, Tensor | None]:
        return _gradients(self.y(inputs), self._leaves(inputs, self.layer), dy)

    def _leaves(self, inputs: Inputs, layer: nn.Module) -> dict[str, Tensor]:
        leaves = {"x": inputs.x, **dict(layer.named_parameters())}
        return leaves | {"residual": inputs.residual} if self.definition.add else leaves

    def _truth(self, inputs: Inputs) -> tuple[_Truth, Tensor | None]:
        """The result of the plain layer in float64, and where the sign before ReLU is beyond doubt."""
        x = inputs.x
        plain = (self.definition.plain or self.definition.build)(x.shape[1]).to(x.device)
        plain.load_state_dict(self.layer.state_dict())
        plain.double().train(self.layer.training)
        exact = Inputs(x.detach().double(), inputs.residual.detach().double(), inputs.dy)
        leaves = self._leaves(exact, plain)
        for leaf in leaves.values():
            leaf.requires_grad_()
        with kernel("reference"):
            y = plain(exact.x)
        if self.definition.add:
            y = y + exact.residual
        if not self.definition.relu:
            return _Truth(y, leaves), None
        certain = y.detach().abs() > TOLERANCES[x.dtype] * y.detach().abs().max()
        return _Truth(y.relu(), leaves), certain


def _choose_batch(layer: nn.Module) -> None:
    assert isinstance(layer, SparseSwitchNorm2d)
    for logits in (layer.mean_weight, layer.var_weight):
        logits.copy_(torch.tensor([10.0 * (name == "batch") for name in layer.statistics]))
    layer.set_radius(1.0)
    layer.harden()


class _Truth(NamedTuple):
    y: Tensor
    leaves: dict[str, Tensor]

    def gradients(self, dy: Tensor) -> dict[str, Tensor | None]:
        return _gradients(self.y, self.leaves, dy)


def _gradients(y: Tensor, leaves: dict[str, Tensor], dy: Tensor) -> dict[str, Tensor | None]:
    found = torch.autograd.grad(y, list(leaves.values()), dy, allow_unused=True)
    return {f"gradient of {name}": gradient for name, gradient in zip(leaves, found, strict=True)}


def copying(inputs: Sequence[Inputs]) -> Call:
    """Reading x and writing as much, which measures the bandwidth that the floor is made of."""
    turns = itertools.cycle([(torch.empty_like(each.x), each.x.detach()) for each in inputs])

    def copy() -> Tensor:
        out, x = next(turns)
        return out.copy_(x)

    return copy


class Replay:
    """A call's kernels as CUDA graphs, captured at the first use, so that launching them costs nothing.

    Args:
        call: what to capture; what it returns is lost.
        turns: how many inputs it takes in turn.
    """

    def __init__(self, call: Call, turns: int) -> None:
        self.call = call
        self.turns = turns

    def __call__(self) -> None:
        """Replay the next one."""
        next(self._replays)()

    @cached_property
    def _replays(self) -> Iterator[Call]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3 * self.turns):
                self.call()
        torch.cuda.current_stream().wait_stream(stream)
        return itertools.cycle([self._captured() for _ in range(self.turns)])

    def _captured(self) -> Call:
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.call()
        replay: Call = graph.replay
        return replay
