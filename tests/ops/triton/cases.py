"""Cases for the kernels, what they have to give, and how far from it rounding may take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import kernel, moments, normalize
from switchnorm.ops.kernels.layouts import dense, like
from switchnorm.ops.kernels.triton.fused import backward as fused_backward
from switchnorm.ops.kernels.triton.fused import forward as fused_forward
from switchnorm.ops.kernels.triton.launch import INTERPRETING
from switchnorm.ops.projection import GIVEN, SOFTMAX, SPARSE_SIMPLEX, Call, Moved
from switchnorm.ops.simplex import sparsestmax
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


class Choice(NamedTuple):
    """How logits become importance, and the tensors (1,) that SparsestMax reads."""

    projection: int
    tied: bool
    mean_fixed: Tensor
    var_fixed: Tensor
    radius: Tensor

    @classmethod
    def of(cls, projection: int, tied: bool, fixed: int, radius: float) -> Choice:
        """fixed: 1 where the choice of the mean is final, and 2 more where that of the variance is."""
        return cls(projection, tied, torch.tensor([fixed & 1]), torch.tensor([fixed >> 1]), torch.tensor([radius]))


def importance_of(mean: Tensor, var: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
    """The importance for logits (K,), in plain operations."""
    if choice.tied:
        mean = var = (mean + var) / 2
    if choice.projection == GIVEN:
        return mean.clone(), var.clone()
    if choice.projection == SOFTMAX:
        return mean.softmax(0), var.softmax(0)
    found = []
    for logits, fixed in ((mean, choice.mean_fixed), (var, choice.var_fixed)):
        radius = torch.where(fixed > 0, 1.0, choice.radius).squeeze().to(logits)
        centre = "simplex" if choice.projection == SPARSE_SIMPLEX else "support"
        projected = sparsestmax(logits, radius, centre)
        found.append(projected.detach() + 0 * logits if fixed else projected)
    return found[0], found[1]


class Results(NamedTuple):
    y: Tensor
    batch_mean: Tensor | None
    batch_var: Tensor | None
    gradients: dict[str, Tensor]


def weights(case: Case, choice: Choice | None) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """The statistics that count, and their importance in mean and variance; by softmax where nothing else is said."""
    kept = [k for k, name in enumerate(case.statistics) if choice is None or case.x.dim() > 2 or name != "instance"]
    logits = case.mean_logits[kept], case.var_logits[kept]
    of_logits = (logits[0].softmax(0), logits[1].softmax(0)) if choice is None else importance_of(*logits, choice)
    return tuple(case.statistics[k] for k in kept), *of_logits


def forward(case: Case, activation: str | None, choice: Choice | None = None) -> Any:
    return normalize(
        case.x,
        *weights(case, choice),
        case.weight,
        case.bias,
        eps=case.eps,
        running=case.running,
        ghost=case.ghost,
        unbiased=case.unbiased,
        residual=case.residual,
        activation=activation,  # type: ignore[arg-type]
    )


def results(case: Case, name: str, choice: Choice | None = None) -> Results:
    """What a kernel gives for a case."""
    leaves = {key: t.detach().requires_grad_() for key, t in case.leaves().items()}
    with kernel(name):
        normalized = forward(case._replace(**leaves), "relu" if case.relu else None, choice)
        found = torch.autograd.grad(normalized.y, list(leaves.values()), case.dy, allow_unused=True)
        gradients = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves.values(), found, strict=True)]
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


def rounding(case: Case, choice: Choice | None = None) -> Rounding:
    x = case.x.double()
    u = 16 * torch.finfo(torch.promote_types(case.x.dtype, torch.float32)).eps / 2
    largest = float(x.abs().max())
    spread = float(x.max() - x.min())
    smallest = float(mixed_variance(case, x, choice).min()) + case.eps
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


def mixed_variance(case: Case, x: Tensor, choice: Choice | None) -> Tensor:
    """A lower bound of the mixed variance of each map."""
    mean, var = moments(x)
    size = x[0, 0].numel()
    if case.unbiased and size > 1:
        var = var * (size / (size - 1))
    n, c = mean.shape
    mixed = torch.zeros_like(var)
    statistics, _, of_var = weights(case.to(torch.Tensor.double), choice)
    for name, importance in zip(statistics, of_var, strict=True):
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


def without_close_calls(case: Case, choice: Choice | None = None) -> Case:
    """The case with no gradient where y before ReLU is too close to 0 for its sign to be certain."""
    if not case.relu:
        return case
    with kernel("reference"), torch.no_grad():
        before = forward(case.to(torch.Tensor.double), None, choice).y
    bound = rounding(case, choice)
    close = bound.weighted / bound.gain * bound.element + bound.u * float(before.abs().max())
    close = max(close, torch.finfo(case.x.dtype).tiny)
    return case._replace(dy=torch.where(before.abs() <= close, 0, case.dy))


def check(case: Case, name: str = "triton") -> Results:
    """Compare a kernel with the reference in float64; returns what the kernel gave."""
    case = without_close_calls(case)
    ours = results(case, name)
    compare(case, ours, results(case.to(torch.Tensor.double), "reference"), rounding(case), 1.0)
    return ours


def compare(case: Case, ours: Results, theirs: Results, b: Rounding, slope: float) -> None:
    """Hold results against those of float64; slope: how far the projection of logits stretches differences."""
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
    of_mean_logits = b.mean + b.normalized / b.gain * relative
    of_var_logits = b.gain * b.normalized * (b.var + b.normalized**2 / b.gain**2 * relative)
    bounds = {
        # The sum of dy, of dy times a normalized element, and of their averages times one.
        "x": 4 * b.weighted * dy * b.normalized**2 * relative,
        "mean_logits": slope * maps * of_map * b.weighted * of_mean_logits,
        "var_logits": slope * maps * of_map * b.weighted * of_var_logits,
        "weight": case.x.shape[0] * of_map * (b.element + b.normalized * b.u),
        "bias": case.x.shape[0] * of_map * b.u,
        "residual": 0.0,
    }
    for key, gradient in ours.gradients.items():
        close(f"gradient of {key}", gradient, theirs.gradients[key], bounds[key])
        assert gradient.dtype == getattr(case, key).dtype


def check_whole(case: Case, choice: Choice, share: float | None) -> None:
    """Compare a pass from logits, which may move running statistics by a share, with plain operations in float64."""
    # Numbers of few digits, of which halves and differences are exact.
    case = case._replace(
        mean_logits=(case.mean_logits * 64).round() / 64, var_logits=(case.var_logits * 64).round() / 64
    )
    case = without_close_calls(case._replace(x=dense(case.x)), choice)
    wide = case.to(torch.Tensor.double)
    theirs = results(wide, "reference", choice)
    with torch.no_grad():
        slope = max(1.0, *(float(t.abs().sum(1).max()) for t in jacobians(wide, choice)))
    b = rounding(case, choice)
    channels = case.x.shape[1]
    table = torch.promote_types(case.x.dtype, torch.float32)
    moves = share is not None and theirs.batch_mean is not None
    before = (torch.randn(channels, dtype=table), torch.rand(channels, dtype=table))
    after = (before[0].clone(), before[1].clone())
    counter = torch.tensor(5)
    moved = Moved(*after, counter, share) if moves and share is not None else None
    ghost = case.ghost if isinstance(case.ghost, int) and case.ghost < len(case.x) else None
    call = Call(case.statistics, case.eps, ghost, case.unbiased, case.relu, choice.projection, choice.tied)
    logits = case.mean_logits, case.var_logits, (choice.mean_fixed, choice.var_fixed, choice.radius)
    residual = None if case.residual is None else like(case.residual, case.x)
    tables = (*logits, case.weight, case.bias, case.running)
    y, saved, batch, notes = fused_forward(call, case.x, tables, residual, moved)
    kept = y if case.relu and residual is not None else None
    dy = like(case.dy, case.x)
    *found, dz = fused_backward(call, notes, dy, case.x, kept, saved, tables)
    names = ("x", "mean_logits", "var_logits", "weight", "bias", "residual")
    given = dict(zip(names, (*found, dy if dz is None else dz), strict=True))
    gradients = {name: given[name] for name in case.leaves()}
    if moves:
        assert batch is None
        assert share is not None
        assert theirs.batch_mean is not None
        assert theirs.batch_var is not None
        assert counter == 6
        for what, now, was, of_batch, bound in zip(
            ("mean", "var"), after, before, (theirs.batch_mean, theirs.batch_var), (b.mean, b.var), strict=True
        ):
            expected = torch.lerp(was.double(), of_batch, share)
            close(f"running {what}", now, expected, share * bound + b.u * float(was.abs().max()))
        theirs = theirs._replace(batch_mean=None, batch_var=None)
    batch_mean, batch_var = (None, None) if batch is None else batch.unbind()
    compare(case, Results(y, batch_mean, batch_var, gradients), theirs, b, slope)
    for fixed, name in ((choice.mean_fixed, "mean_logits"), (choice.var_fixed, "var_logits")):
        if choice.projection >= SPARSE_SIMPLEX and fixed and not choice.tied:
            assert not gradients[name].any()


def jacobians(case: Case, choice: Choice) -> list[Tensor]:
    """Of the importance in mean and variance by the logits of either."""

    def of(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        return weights(case._replace(mean_logits=mean, var_logits=var), choice)[1:]

    with torch.enable_grad():
        found = torch.autograd.functional.jacobian(of, (case.mean_logits, case.var_logits))
    return [t for row in found for t in row]


def whole_case(
    shape: tuple[int, ...], statistics: tuple[str, ...], *, ghost: int | None = None, relu: bool = False
) -> Case:
    """A case in float32 with weight and bias, always of the same numbers."""
    generator = torch.Generator().manual_seed(len(shape) + 10 * len(statistics))
    sizes = (shape, shape, (len(statistics),), (len(statistics),), (shape[1],), (shape[1],))
    x, dy, mean, var, weight, bias = (torch.randn(size, generator=generator) for size in sizes)
    return Case(x + 3, dy, statistics, mean, var, weight, bias, None, None, relu, 1e-5, ghost, True)


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
def cases(
    draw: st.DrawFn,
    elements: int = 3000,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
    equal_parts: bool = False,
) -> Case:
    """Cases of up to about `elements` elements per tensor; `equal_parts` of the batch alone."""
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
    statistics, ghost, unbiased = draw(rules(n, c, tuple(sides), equal_parts))
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
def rules(
    draw: st.DrawFn, n: int, c: int, sides: tuple[int, ...], equal_parts: bool
) -> tuple[tuple[str, ...], Any, bool]:
    """Statistics, the parts of the batch, and whether variances are unbiased."""
    groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
    names = ["layer", "batch", f"group:{groups}"] + (["instance"] if sides else [])
    statistics = tuple(draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    divisors = st.sampled_from([g for g in range(1, n + 1) if n % g == 0])
    numbers = st.sampled_from([g for g in range(1, n + 2) if n % g == 0 or draw(st.booleans())])
    ghost = draw(st.one_of(st.none(), divisors) if equal_parts else st.one_of(st.none(), numbers, partitions(n)))
    if statistics == ("batch",) and torch.Size(sides).numel() == 1 and 1 in part_sizes(ghost, n):
        statistics = ("layer", "batch")
    return statistics, ghost, draw(st.booleans())
