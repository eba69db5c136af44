"""Cases for the kernels, what they have to give, and how far from it rounding may take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import kernel, moments, normalize
from switchnorm.ops.kernels.triton.launch import INTERPRETING
from tests.ops.definitions import part_sizes, partitions

SN = ("instance", "layer", "batch")


class Case(NamedTuple):
    """Arguments of `normalize`, with the logits of the importance in place of it, and a cotangent.

    `running`, `residual`, weight and bias may be None; x, dy and residual share a dtype.
    """

    x: Tensor
    dy: Tensor
    statistics: tuple[str, ...]
    mean_logits: Tensor
    var_logits: Tensor
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None
    running: tuple[Tensor, Tensor] | None
    relu: bool
    eps: float
    ghost: int | tuple[int, ...] | None
    unbiased: bool

    def __repr__(self) -> str:
        """Tensors by what matters of them."""

        def brief(value: Any) -> str:
            if not isinstance(value, Tensor):
                return repr(value) if not isinstance(value, tuple) else f"({', '.join(map(brief, value))})"
            return f"{value.dtype} {tuple(value.shape)} strides {value.stride()} up to {value.abs().max():.3g}"

        return "Case(" + ", ".join(f"{name}={brief(getattr(self, name))}" for name in self._fields) + ")"

    def to(self, convert: Any) -> Case:
        """The same with every tensor converted."""

        def one(value: Any) -> Any:
            if isinstance(value, Tensor):
                return convert(value)
            return tuple(one(v) for v in value) if isinstance(value, tuple) and not isinstance(value, Case) else value

        return Case(*(one(value) for value in self))

    def leaves(self) -> dict[str, Tensor]:
        names = ("x", "mean_logits", "var_logits", "weight", "bias", "residual")
        return {name: t for name in names if (t := getattr(self, name)) is not None}


class Results(NamedTuple):
    y: Tensor
    batch_mean: Tensor | None
    batch_var: Tensor | None
    gradients: dict[str, Tensor]


def forward(case: Case, activation: str | None) -> Any:
    return normalize(
        case.x,
        case.statistics,
        case.mean_logits.softmax(0),
        case.var_logits.softmax(0),
        case.weight,
        case.bias,
        eps=case.eps,
        running=case.running,
        ghost=case.ghost,
        unbiased=case.unbiased,
        residual=case.residual,
        activation=activation,  # type: ignore[arg-type]
    )


def results(case: Case, name: str) -> Results:
    """What a kernel gives for a case."""
    leaves = {key: t.detach().requires_grad_() for key, t in case.leaves().items()}
    with kernel(name):
        normalized = forward(case._replace(**leaves), "relu" if case.relu else None)
        gradients = torch.autograd.grad(normalized.y, list(leaves.values()), case.dy)
    y, *batch = normalized
    return Results(y.detach(), *batch, dict(zip(leaves, gradients, strict=True)))


class Rounding(NamedTuple):
    """Bounds of rounding errors, from the numbers of a case.

    u is the accumulation's unit roundoff. Every bound allows 16 roundings where an expression has fewer, and the worst
    over summands, so that sums are bounded by their number times their largest error.

    Attributes:
        mean: of a mean; a table holds it to u times its size, hence an offset of 1e4 costs 4 digits.
        var: of a variance: squares are sums about the first element, at most the range R away, u R², and distances
            between means carry the error of these.
        gain, weighted: largest 1 / sqrt(var + eps), and that times |weight|.
        normalized: largest |(x - mean) / sqrt(var + eps)|, and 1.
        scale: of scale, relative.
        element: of a normalized element, absolute.
    """

    u: float
    mean: float
    var: float
    gain: float
    weighted: float
    normalized: float
    scale: float
    element: float


def rounding(case: Case) -> Rounding:
    x = case.x.double()
    u = 16 * torch.finfo(torch.promote_types(case.x.dtype, torch.float32)).eps / 2
    largest = float(x.abs().max())
    spread = float(x.max() - x.min())
    smallest = float(mixed_variance(case, x).min()) + case.eps
    if case.running is not None and "batch" in case.statistics:
        largest = max(largest, float(case.running[0].abs().max()))
        spread += float((case.running[0].double()[None] - x.flatten(2).mean(2) if x.dim() > 2 else x).abs().max())
    mean = u * largest
    var = u * spread**2 + 2 * mean * spread + mean**2
    gain = smallest**-0.5
    weighted = gain * (1.0 if case.weight is None else float(case.weight.abs().max()))
    normalized = max(1.0, gain * spread)
    scale = min(1.0, var * gain**2 / 2) + u
    return Rounding(u, mean, var, gain, weighted, normalized, scale, gain * mean + normalized * scale)


def mixed_variance(case: Case, x: Tensor) -> Tensor:
    """A lower bound of the mixed variance of each map."""
    mean, var = moments(x)
    size = x[0, 0].numel()
    if case.unbiased and size > 1:
        var = var * (size / (size - 1))
    n, c = mean.shape
    mixed = torch.zeros_like(var)
    for name, importance in zip(case.statistics, case.var_logits.double().softmax(0), strict=True):
        if name == "instance":
            of = var
        elif name == "batch" and case.running is not None:
            of = case.running[1].double()[None]
        elif name == "batch":
            sizes = part_sizes(case.ghost, n)
            parts = zip(mean.split(sizes), var.split(sizes), strict=True)
            of = torch.cat([(v.mean(0) + m.var(0, correction=0)).expand_as(v) for m, v in parts if len(v)])
        else:
            groups = (n, 1 if name == "layer" else int(name[6:]), -1)
            m, v = mean.reshape(groups), var.reshape(groups)
            of = (v.mean(2) + m.var(2, correction=0))[..., None].expand(v.shape).reshape(n, c)
        mixed = mixed + importance * of
    return mixed


def without_close_calls(case: Case) -> Case:
    """The case with no gradient where y before ReLU is too close to 0 for its sign to be certain."""
    if not case.relu:
        return case
    with kernel("reference"), torch.no_grad():
        before = forward(case.to(torch.Tensor.double), None).y
    bound = rounding(case)
    close = bound.weighted / bound.gain * bound.element + bound.u * float(before.abs().max())
    close = max(close, torch.finfo(case.x.dtype).tiny)
    return case._replace(dy=torch.where(before.abs() <= close, 0, case.dy))


def check(case: Case, name: str = "triton") -> Results:
    """Compare a kernel with the reference in float64; returns what the kernel gave."""
    case = without_close_calls(case)
    ours = results(case, name)
    theirs = results(case.to(torch.Tensor.double), "reference")
    b = rounding(case)
    count = case.x[0, 0].numel()
    maps = case.x.shape[0] * case.x.shape[1]
    dy = float(case.dy.abs().max())
    of_map = count * dy
    relative = b.scale + b.element + b.u
    assert ours.y.stride() == dense_strides(case.x)
    of_weight = b.weighted / b.gain
    close("y", ours.y, theirs.y, of_weight * b.element)
    if theirs.batch_mean is not None:
        assert ours.batch_mean is not None
        assert ours.batch_var is not None
        assert theirs.batch_var is not None
        close("batch mean", ours.batch_mean, theirs.batch_mean, b.mean)
        close("batch var", ours.batch_var, theirs.batch_var, b.var)
    else:
        assert ours.batch_mean is None
    bounds = {
        # The sum of dy, of dy times a normalized element, and of their averages times one.
        "x": 4 * b.weighted * dy * b.normalized**2 * relative,
        "mean_logits": maps * of_map * b.weighted * (b.mean + b.normalized / b.gain * relative),
        "var_logits": maps
        * of_map
        * b.weighted
        * b.gain
        * b.normalized
        * (b.var + b.normalized**2 / b.gain**2 * relative),
        "weight": case.x.shape[0] * of_map * (b.element + b.normalized * b.u),
        "bias": case.x.shape[0] * of_map * b.u,
        "residual": 0.0,
    }
    for key, gradient in ours.gradients.items():
        close(f"gradient of {key}", gradient, theirs.gradients[key], bounds[key])
        assert gradient.dtype == getattr(case, key).dtype
    return ours


def close(what: str, ours: Tensor, theirs: Tensor, bound: float) -> None:
    """Equal up to a bound on the error before rounding to ours' dtype, and that rounding."""
    assert ours.shape == theirs.shape
    info = torch.finfo(ours.dtype)
    error = (ours.double() - theirs).abs()
    # Smallest subnormal numbers have no relative accuracy.
    allowed = bound + theirs.abs() * info.eps * unit(ours.dtype) * 1.01 + info.smallest_normal * info.eps
    assert bool((error <= allowed).all()), f"{what}: off by {float((error - allowed).max()):.1e} more than {bound:.1e}"


def unit(dtype: torch.dtype) -> float:
    """The error of rounding, in units of the last place; Triton's interpreter truncates to bfloat16."""
    return 1.0 if INTERPRETING and dtype == torch.bfloat16 else 0.5


def dense_strides(x: Tensor) -> tuple[int, ...]:
    """The strides of the result: x's own where x is dense in one of the two layouts, else contiguous."""
    if x.is_contiguous() or (x.dim() > 2 and x.movedim(1, -1).is_contiguous()):
        return x.stride()
    return x.contiguous().stride()


def laid_out(t: Tensor, layout: str) -> Tensor:
    """The same numbers, otherwise in memory."""
    if layout == "channels last" and t.dim() in (4, 5):
        return t.contiguous(memory_format=torch.channels_last if t.dim() == 4 else torch.channels_last_3d)
    if layout == "transposed":
        return t.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "offset":
        # Starts 4 bytes or less past a boundary of 16 bytes.
        return torch.cat((t.flatten()[:1], t.flatten()))[1:].view(t.shape)
    return t.contiguous()


@st.composite
def cases(draw: st.DrawFn, elements: int = 3000, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Case:
    """Cases of up to about `elements` elements per tensor."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from(dtypes))
    table = torch.promote_types(dtype, torch.float32)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    c = draw(st.one_of(st.integers(1, 8), st.integers(1, 70), st.sampled_from((64, 256, 2048, 2100))))
    n = draw(st.integers(1, max(1, min(9, elements // c))))
    room = max(1, elements // (n * c))
    sides = []
    for _ in range(draw(st.integers(0, 3))):
        sides.append(draw(st.integers(1, min(50, room))))
        room = max(1, room // sides[-1])
    statistics, ghost, unbiased = draw(rules(n, c, tuple(sides)))
    offset = draw(st.sampled_from((0.0, -3.0, 1e4 if dtype != torch.float16 else 1e3)))
    x = laid_out((normal(n, c, *sides) * draw(st.sampled_from((1.0, 30.0))) + offset).to(dtype), draw(LAYOUTS))
    dy = laid_out(normal(*x.shape).to(dtype), draw(LAYOUTS))
    if draw(st.integers(0, 4)) == 0:
        dy = normal(1, c, *(1 for _ in sides)).to(dtype).expand(x.shape)
    affine = [normal(c).to(table) if draw(st.booleans()) else None for _ in range(2)]
    running = None
    if draw(st.integers(0, 2)) == 0:
        running = ((offset + normal(c)).to(table), normal(c).exp().to(table))
    residual = laid_out(normal(*x.shape).to(dtype), draw(LAYOUTS)) if draw(st.booleans()) else None
    logits = [normal(len(statistics)).to(table) for _ in range(2)]
    eps = draw(st.sampled_from((1e-5, 1e-2)))
    return Case(x, dy, statistics, *logits, *affine, residual, running, draw(st.booleans()), eps, ghost, unbiased)


LAYOUTS = st.sampled_from(("contiguous", "contiguous", "channels last", "channels last", "transposed", "offset"))


@st.composite
def rules(draw: st.DrawFn, n: int, c: int, sides: tuple[int, ...]) -> tuple[tuple[str, ...], Any, bool]:
    """Statistics, the parts of the batch, and whether variances are unbiased."""
    groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
    names = ["layer", "batch", f"group:{groups}"] + (["instance"] if sides else [])
    statistics = tuple(draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    numbers = st.sampled_from([g for g in range(1, n + 2) if n % g == 0 or draw(st.booleans())])
    ghost = draw(st.one_of(st.none(), numbers, partitions(n)))
    if statistics == ("batch",) and torch.Size(sides).numel() == 1 and 1 in part_sizes(ghost, n):
        statistics = ("layer", "batch")
    return statistics, ghost, draw(st.booleans())
