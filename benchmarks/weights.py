"""Weight standardization of ResNet-50's convolutions: what training pays for it, and that evaluation does not."""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.agreement import TOLERANCES, require_agreement
from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Effort
from benchmarks.options import add_device, check_device
from benchmarks.shapes import resnet50_inputs
from benchmarks.subjects import LAYOUTS
from switchnorm.layers import WSConv2d
from switchnorm.ops import kernel, standardize_weight

Standardize = Callable[[Tensor], Tensor]
#: Of evaluation over a plain convolution: nothing, up to what a clock can tell.
NOTHING = 1.01
TOLERANCE = TOLERANCES[torch.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    add_device(parser)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options leave out what belongs into the record."""
    return bool(options.quick)


def cases(options: argparse.Namespace) -> list[Case]:
    """All weights forward and backward in both layouts, and all convolutions in evaluation."""
    device = check_device(options.device)
    effort = Effort(seconds=3 if options.quick else 20, fewest=5, most=50, warmups=2)
    standardization = [
        Case(
            facts={"job": "ResNet-50's weights", "phase": "forward + backward", "layout": layout, "dtype": "float32"},
            ways=functools.partial(_standardizations, layout, device),
            pairs=(
                Pair("WS", "WS, published formula", headline=True),
                Pair("WS, reference", "WS, published formula"),
            ),
            effort=effort,
            device=device,
        )
        for layout in LAYOUTS
    ]
    evaluation = Case(
        facts={
            "job": "ResNet-50's convolutions, a picture",
            "phase": "evaluation",
            "layout": "contiguous",
            "dtype": "float32",
        },
        ways=functools.partial(_evaluations, device),
        pairs=(Pair("WSConv2d", "Conv2d", at_most=NOTHING, headline=True),),
        effort=effort,
        device=device,
    )
    return [*standardization, evaluation]


def published(weight: Tensor) -> Tensor:
    """The formula as published code has it, but for a `view` that a channels-last weight would not allow."""
    mean = weight.mean(dim=1, keepdim=True).mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)
    weight = weight - mean
    std = weight.reshape(weight.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
    return weight / std.expand_as(weight)


def _reference(weight: Tensor) -> Tensor:
    with kernel("reference"):
        return standardize_weight(weight)


def _standardizations(layout: str, device: str) -> dict[str, Way]:
    generator = torch.Generator().manual_seed(0)
    shapes = [conv.weight.shape for conv, _ in _convolutions()]
    weights, cotangents = (
        [
            torch.randn(shape, generator=generator).to(device).contiguous(memory_format=LAYOUTS[layout])
            for shape in shapes
        ]
        for _ in range(2)
    )
    for weight in weights:
        weight.requires_grad_()

    def way(standardize: Standardize) -> Way:
        run = functools.partial(_forward_and_backward, standardize, weights, cotangents)
        return Way(run, check=functools.partial(_check, standardize, weights, cotangents))

    ways: dict[str, Standardize] = {
        "WS": standardize_weight,
        "WS, reference": _reference,
        "WS, published formula": published,
    }
    return {name: way(standardize) for name, standardize in ways.items()}


def _forward_and_backward(
    standardize: Standardize, weights: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Each weight standardized, and its gradient."""
    results = []
    for weight, cotangent in zip(weights, cotangents, strict=True):
        standardized = standardize(weight)
        (gradient,) = torch.autograd.grad(standardized, weight, cotangent)
        results.append((standardized, gradient))
    return results


def _check(standardize: Standardize, weights: Sequence[Tensor], cotangents: Sequence[Tensor]) -> None:
    exact = [weight.detach().double().requires_grad_() for weight in weights]
    truths = _forward_and_backward(_reference, exact, [cotangent.double() for cotangent in cotangents])
    for result, truth in zip(_forward_and_backward(standardize, weights, cotangents), truths, strict=True):
        names = ("weight", "gradient")
        require_agreement(dict(zip(names, result, strict=True)), dict(zip(names, truth, strict=True)), TOLERANCE)


def _evaluations(device: str) -> dict[str, Way]:
    """All convolutions of ResNet-50 on inputs of their size, with weights as they are and standardized."""
    torch.manual_seed(0)
    plain = [copy.deepcopy(conv).to_empty(device=device).eval() for conv, _ in _convolutions()]
    inputs = [torch.randn(shape, device=device) for _, shape in _convolutions()]
    for conv in plain:
        conv.reset_parameters()
    standardized = [_standardized(conv) for conv in plain]

    def check() -> None:
        for conv, each, x in zip(plain, standardized, inputs, strict=True):
            exact = copy.deepcopy(conv).double()
            exact.weight = nn.Parameter(_reference(exact.weight))
            with torch.inference_mode():
                for _ in range(2):  # The second finds the standardized weight in the cache.
                    require_agreement({"y": each(x)}, {"y": exact(x.double())}, TOLERANCE)

    return {
        "Conv2d": Way(functools.partial(_apply, plain, inputs)),
        "WSConv2d": Way(functools.partial(_apply, standardized, inputs), check),
    }


def _convolutions() -> list[tuple[nn.Conv2d, tuple[int, ...]]]:
    return [(conv, shape) for conv, shape in resnet50_inputs(nn.Conv2d) if isinstance(conv, nn.Conv2d)]


def _standardized(conv: nn.Conv2d) -> WSConv2d:
    """The same convolution with a standardized weight."""
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size)
    twin = WSConv2d(*shape, conv.stride, conv.padding, conv.dilation, conv.groups, conv.bias is not None)
    twin.load_state_dict(conv.state_dict())
    return twin.to(conv.weight.device).eval()


@torch.inference_mode()
def _apply(convolutions: Sequence[nn.Module], inputs: Sequence[Tensor]) -> None:
    for convolution, x in zip(convolutions, inputs, strict=True):
        convolution(x)
