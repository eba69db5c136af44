"""What the compiled path must give, as one table of cases; `python -m tests.ops.kernels.contracts FOLDER` runs it.

FOLDER holds a build of the library: one that looks for memory that was not written, or touched past its end, or for
undefined behaviour. It prints how many cases there were, and which variant computed them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.ops import kernel, normalize
from switchnorm.ops.kernels import choice
from switchnorm.ops.kernels.native.kernel import NativeKernel

SN = ("instance", "layer", "batch")


class Contract(NamedTuple):
    """A layer, and what it is given.

    Attributes:
        kind: "sn", "ssn", or "normalize", the operation without a layer, whose importance is given.
        statistics: of it.
        options: of the layer or operation.
        given: among "residual", "relu", "running" (evaluation), "flat", "1d" and "3d" (shapes), "final" (a choice
            of the variance), "hard" (evaluation after both choices), "half" (parameters of x's dtype, if it is a half).
    """

    kind: str = "sn"
    statistics: tuple[str, ...] = SN
    options: Mapping[str, Any] = MappingProxyType({})
    given: tuple[str, ...] = ()


CONTRACTS: dict[str, Contract] = {
    "sn": Contract(),
    "sn, two statistics": Contract(statistics=("layer", "batch")),
    "sn, groups": Contract(statistics=("group:4", "instance", "group:2")),
    "sn, ghosts": Contract(options={"ghost": 2}),
    "sn, unequal ghosts": Contract(options={"ghost": (1, 3, 1)}),
    "sn, an empty ghost": Contract(options={"ghost": (2, 0, 3)}),
    "sn, average over all batches": Contract(options={"momentum": None}),
    "sn, no affine map": Contract(options={"affine": False}),
    "sn, nothing tracked": Contract(options={"track_running_stats": False}),
    "sn, evaluation": Contract(given=("running",)),
    "sn, relu": Contract(given=("relu",)),
    "sn, residual": Contract(given=("residual",)),
    "sn, residual and relu": Contract(given=("residual", "relu")),
    "sn, evaluation, residual and relu": Contract(given=("running", "residual", "relu")),
    "sn, parameters of x's dtype": Contract(given=("half",)),
    "sn, flat": Contract(given=("flat",)),
    "sn, flat, evaluation": Contract(given=("flat", "running")),
    "sn, 1d": Contract(given=("1d",)),
    "sn, 3d": Contract(given=("3d", "relu")),
    "ssn": Contract("ssn"),
    "ssn, ball in the simplex": Contract("ssn", options={"centre": "simplex"}),
    "ssn, tied": Contract("ssn", options={"tied": True}),
    "ssn, a final choice": Contract("ssn", given=("final",)),
    "ssn, hard": Contract("ssn", given=("hard",)),
    "ssn, flat": Contract("ssn", given=("flat",)),
    "normalize": Contract("normalize"),
    "normalize, unequal ghosts": Contract("normalize", options={"ghost": (1, 3, 1)}),
    "normalize, torch's batch norm": Contract("normalize", ("batch",), {"unbiased": False}),
    "normalize, torch's layer norm": Contract("normalize", ("layer",), {"unbiased": False}),
    "normalize, groups": Contract("normalize", ("group:4", "group:2", "batch")),
    "normalize, instance": Contract("normalize", ("instance",)),
    "normalize, running": Contract("normalize", given=("running",)),
    "normalize, running alone": Contract("normalize", ("batch",), given=("running",)),
    "normalize, residual": Contract("normalize", given=("residual",)),
    "normalize, flat": Contract("normalize", given=("flat",)),
}
#: How the elements of (N, C, *S) lie in memory.
LAYOUTS = ("contiguous", "channels last")
#: What one rounding of an element costs: results are exact up to that, relative to the largest of a tensor, or to 1.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 8e-3, torch.float16: 1e-3}
CHANNELS = 20


def channels_last(t: Tensor) -> Tensor:
    """Elements of a place side by side."""
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


class Case(NamedTuple):
    """A contract with numbers.

    Attributes:
        contract: what is done.
        layer: in float64; for "normalize" it holds the leaves of the same names, and its importance is given.
        x, residual, dy: as the dtype can hold them, in float64; no residual is None.
    """

    contract: Contract
    layer: Any
    x: Tensor
    residual: Tensor | None
    dy: Tensor


def made(contract: Contract, layout: str, dtype: torch.dtype) -> Case:
    """Large enough for several threads, of odd channels and maps, with an offset where the dtype can hold it."""
    wide = dtype in (torch.float32, torch.float64)
    shape: tuple[int, ...] = (5, CHANNELS, 37, 29) if wide else (5, CHANNELS, 9, 11)
    for name, other in {"flat": (5, CHANNELS), "1d": (5, CHANNELS, 67), "3d": (5, CHANNELS, 5, 7, 3)}.items():
        shape = other if name in contract.given else shape
    offset = 1e4 if dtype == torch.float32 else 0.0
    laid = channels_last if layout == "channels last" and len(shape) > 2 else torch.Tensor.contiguous

    def drawn(level: float) -> Tensor:
        return laid((torch.randn(shape) + level).to(dtype).double())

    x = drawn(offset)
    residual = drawn(0.0) if "residual" in contract.given else None
    layer = _layer(contract, len(shape) - 2, offset)
    half = "half" in contract.given and not wide
    parameters = dtype if half else torch.promote_types(dtype, torch.float32)
    with torch.no_grad():
        for p in (*layer.parameters(), *layer.buffers()):
            if p.is_floating_point():
                p.copy_(p.to(parameters))
    case = Case(contract, layer, x, residual, drawn(0.0))
    if "relu" not in contract.given:
        return case
    # Where rounding decides the sign, and so whether a gradient passes, none is asked for.
    plain = case._replace(contract=contract._replace(given=tuple(g for g in contract.given if g != "relu")))
    y = results(plain, "reference", torch.float64)["y"]
    near = y.abs() < (0.05 if not wide else 2e-3 if offset else 1e-6)
    return case._replace(dy=laid(torch.where(near, 0.0, case.dy)))


def _layer(contract: Contract, dims: int, offset: float) -> Any:
    kinds = switchnorm.SparseSwitchNorm1d, switchnorm.SparseSwitchNorm2d, switchnorm.SparseSwitchNorm3d
    if contract.kind != "ssn":
        kinds = switchnorm.SwitchNorm1d, switchnorm.SwitchNorm2d, switchnorm.SwitchNorm3d  # type: ignore[assignment]
    options = {} if contract.kind == "normalize" else contract.options
    layer: Any = kinds[max(dims, 1) - 1](CHANNELS, statistics=contract.statistics, **options)
    with torch.no_grad():
        if layer.weight is not None:
            layer.weight.copy_(torch.rand(CHANNELS) + 0.5)
            layer.bias.copy_(torch.randn(CHANNELS))
        for logits in (layer.mean_weight, layer.var_weight):
            logits.copy_(torch.randn(len(logits)))
        if contract.kind == "ssn":
            layer.set_radius(0.25)
            for logits, first in ((layer.mean_weight, 0.5), (layer.var_weight, 0.3)):
                logits.copy_(torch.tensor([first, 0.2, 0.35])[: len(logits)])
            if contract.options.get("tied"):
                layer.var_weight.copy_(layer.mean_weight)
            for name in ("mean_fixed", "var_fixed"):
                if "hard" in contract.given or ("final" in contract.given and name == "var_fixed"):
                    getattr(layer, name).fill_(1)
        if layer.running_mean is not None:
            layer.running_mean.copy_(offset + torch.randn(CHANNELS))
            layer.running_var.copy_(torch.rand(CHANNELS) + 0.5)
            layer.num_batches_tracked.fill_(3)
    return layer.double().train(not {"running", "hard"} & {*contract.given})


def results(case: Case, path: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """y, what became of running statistics, and every gradient, in the given dtype by the given path."""
    contract = case.contract
    half = "half" in contract.given
    layer = _copied(case.layer).to(dtype if half else torch.promote_types(dtype, torch.float32))
    x = case.x.detach().to(dtype).requires_grad_()
    residual = None if case.residual is None else case.residual.detach().to(dtype).requires_grad_()
    leaves = {"x": x, "residual": residual, **dict(layer.named_parameters())}
    leaves = {name: t for name, t in leaves.items() if t is not None}
    relu = "relu" if "relu" in contract.given else None
    found: dict[str, Tensor] = {}
    with kernel(path):
        if contract.kind == "normalize":
            importance = given_importance(layer.mean_weight, layer.var_weight)
            leaves |= dict(zip(("mean_weight", "var_weight"), importance, strict=True))
            running = (layer.running_mean, layer.running_var) if "running" in contract.given else None
            y, mean, var = normalize(
                x,
                contract.statistics,
                *importance,
                layer.weight,
                layer.bias,
                running=running,
                residual=residual,
                activation=relu,  # type: ignore[arg-type]
                **contract.options,
            )
            found = {} if mean is None or var is None else {"batch mean": mean, "batch var": var}
        else:
            y = layer(x, residual, relu)
        if path == "cpu":
            node = "_NormalizeBackward" if contract.kind == "normalize" else "_SwitchBackward"
            assert type(y.grad_fn).__name__ == node, y.grad_fn
        gradients = torch.autograd.grad(y, list(leaves.values()), case.dy.to(dtype))
    found |= {"y": y.detach(), **{f"d {name}": g for name, g in zip(leaves, gradients, strict=True)}}
    if contract.kind == "normalize":
        found["d mean_weight"] = without_level(found["d mean_weight"])
    return found | {name: buffer.detach() for name, buffer in layer.named_buffers()}


def given_importance(*logits: Tensor) -> list[Tensor]:
    """Importance as leaves of the dtype of the logits; it is rounded once."""
    return [each.detach().double().softmax(0).to(each.dtype).requires_grad_() for each in logits]


def native() -> NativeKernel:
    """The compiled path."""
    path = choice._load("cpu")
    assert isinstance(path, NativeKernel), path
    return path


def without_level(gradient: Tensor) -> Tensor:
    """The gradient of the mean's importance, which sums to 1, so that what its entries share is nobody's."""
    return gradient - gradient.mean()


def _copied(layer: nn.Module) -> Any:
    """A layer of the same parameters, buffers and settings that shares no memory."""
    copied = type(layer).__new__(type(layer))
    copied.__dict__.update(layer.__dict__)
    copied._parameters = {
        k: None if p is None else nn.Parameter(p.detach().clone()) for k, p in layer._parameters.items()
    }
    copied._buffers = {k: None if b is None else b.clone() for k, b in layer._buffers.items()}
    return copied


def compared(found: dict[str, Tensor], exact: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Fail where a result is off by more than the rounding of its dtype."""
    assert found.keys() == exact.keys()
    for name, expected in exact.items():
        ours = found[name]
        assert ours.shape == expected.shape
        largest = max(1.0, float(expected.detach().double().abs().max()))
        error = float((ours.double() - expected.double()).abs().max()) / largest
        assert error <= ROUNDING[dtype], f"{name} is off by {error:.1e}"


def every(dtypes: tuple[torch.dtype, ...] = (*ROUNDING,)) -> Iterator[tuple[str, Case, torch.dtype]]:
    """All cases with their names."""
    for name, contract in CONTRACTS.items():
        for layout in LAYOUTS:
            for dtype in dtypes:
                yield f"{name}, {layout}, {dtype}", made(contract, layout, dtype), dtype


def main() -> int:
    """Compare all cases by another build of the library, on one thread and on three."""
    from switchnorm.ops.kernels.native import build, library

    build.BUILT = Path(sys.argv[1])
    torch.manual_seed(0)
    done = 0
    for name, case, dtype in every():
        exact = results(case, "reference", torch.float64)
        for threads in (1, 3):
            torch.set_num_threads(threads)
            try:
                compared(results(case, "cpu", dtype), exact, dtype)
            except AssertionError as error:
                print(f"{name}, {threads} threads: {error}", file=sys.stderr)
                return 1
        done += 1
    loaded = library.load()
    print(done, loaded if isinstance(loaded, str) else loaded.path.name.partition("-")[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
