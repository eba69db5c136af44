"""`normalize` against definitions written with loops, against torch.nn, under large offsets, and on empty inputs.

Every test runs on the plain reference and on the fast path that a CPU takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.ops import kernel, moments, normalize
from switchnorm.ops.statistics import check_groups, check_statistics

pytestmark = pytest.mark.usefixtures("poisoned", "path")


@pytest.fixture(params=["reference", "cpu"])
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    with kernel(request.param):
        yield


SINGLE = ("instance", "layer", "batch", "group:2")
SN = ("instance", "layer", "batch")


def reference(
    x: Tensor,
    statistics: tuple[str, ...],
    mean_importance: Tensor,
    var_importance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    eps: float = 1e-5,
    running: tuple[Tensor, Tensor] | None = None,
    ghost: int | None = None,
    unbiased: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The definitions, one sample and one channel at a time: y and the mean over ghosts of the batch statistics."""
    n, c, flat = x.shape[0], x.shape[1], x.dim() == 2
    maps = x.reshape(n, c, -1)
    size = maps.shape[2]

    def pool(samples: range, channels: range) -> tuple[Tensor, Tensor]:
        part = maps[samples.start : samples.stop, channels.start : channels.stop]
        mean = part.sum() / part.numel()
        if not unbiased:
            return mean, ((part - mean) ** 2).sum() / part.numel()
        if flat and part.numel() > 1:
            return mean, ((part - mean) ** 2).sum() / (part.numel() - 1)
        # The published mean(var + mean²) - mean(mean)² over maps, the means taken relative to the common one.
        total = torch.zeros((), dtype=x.dtype)
        for each in part.flatten(0, 1):
            own = each.sum() / size
            total = total + ((each - own) ** 2).sum() / max(size - 1, 1) + (own - mean) ** 2
        return mean, total / (len(samples) * len(channels))

    ghosts = [range(start, min(start + (ghost or n), n)) for start in range(0, n, ghost or n)]
    rows = []
    for i in range(n):
        for j in range(c):
            mean, var = torch.zeros((), dtype=x.dtype), torch.zeros((), dtype=x.dtype)
            for k, name in enumerate(statistics):
                if name == "instance":
                    m, v = pool(range(i, i + 1), range(j, j + 1))
                elif name == "batch" and running is not None:
                    m, v = running[0][j], running[1][j]
                elif name == "batch":
                    m, v = pool(next(part for part in ghosts if i in part), range(j, j + 1))
                else:
                    width = c // (1 if name == "layer" else int(name.split(":")[1]))
                    m, v = pool(range(i, i + 1), range(j - j % width, j - j % width + width))
                mean, var = mean + mean_importance[k] * m, var + var_importance[k] * v
            y = (maps[i, j] - mean) / (var + eps) ** 0.5
            rows.append(y * (1 if weight is None else weight[j]) + (0 if bias is None else bias[j]))
    pooled = [[pool(part, range(j, j + 1)) for j in range(c)] for part in ghosts]
    batch_mean = torch.stack([torch.stack([m for m, _ in part]) for part in pooled]).mean(0)
    batch_var = torch.stack([torch.stack([v for _, v in part]) for part in pooled]).mean(0)
    return torch.stack(rows).reshape(x.shape), batch_mean.detach(), batch_var.detach()


class Case(NamedTuple):
    x: Tensor
    dy: Tensor
    statistics: tuple[str, ...]
    mean_logits: Tensor
    var_logits: Tensor
    weight: Tensor | None
    bias: Tensor | None
    options: dict[str, Any]
    offset: float

    def leaves(self) -> list[Tensor]:
        return [t for t in (self.x, *self[3:7]) if t is not None]

    def arguments(self) -> tuple[Any, ...]:
        """What `normalize` takes. Importance has to sum to 1, so that only the gradient of logits means something."""
        softmax = (self.mean_logits.softmax(0), self.var_logits.softmax(0))
        return self.x, self.statistics, *softmax, self.weight, self.bias


def laid_out(t: Tensor, layout: str) -> Tensor:
    """The same numbers, otherwise in memory."""
    if layout == "channels last" and t.dim() in (4, 5):
        return t.contiguous(memory_format=torch.channels_last if t.dim() == 4 else torch.channels_last_3d)
    if layout == "transposed":
        return t.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "strided":
        wide = torch.full((*t.shape[:-1], 2 * t.shape[-1]), float("nan"), dtype=t.dtype)
        wide[..., ::2] = t
        return wide[..., ::2]
    return t.contiguous()


LAYOUTS = st.sampled_from(("contiguous", "channels last", "transposed", "strided"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n, c = draw(st.integers(1, 6)), draw(st.one_of(st.integers(1, 8), st.integers(1, 40)))
    sides = draw(st.lists(st.integers(1, 5 if c < 9 else 2), max_size=3))
    groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
    names = ["layer", "batch", f"group:{groups}"] + (["instance"] if sides else [])
    statistics = tuple(draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    options: dict[str, Any] = {"unbiased": draw(st.booleans()), "eps": draw(st.sampled_from((1e-5, 1e-2)))}
    options["ghost"] = draw(st.one_of(st.none(), st.integers(1, n + 1)))
    elements = n * torch.Size(sides).numel()
    ghost = options["ghost"] or n
    if statistics == ("batch",) and elements // n * (n % ghost or min(n, ghost)) == 1:
        statistics = ("layer", "batch")
    if draw(st.booleans()):
        options["running"] = (normal(c), normal(c).exp())
    offset = draw(st.sampled_from((0.0, -3.0, 1e4)))
    # Deviations of 0.01 under an offset of 1e4 would leave no digits to compare gradients by.
    deviation = draw(st.sampled_from((1.0, 30.0, 0.01 if offset < 1e4 else 1.0)))
    x = laid_out(normal(n, c, *sides) * deviation + offset, draw(LAYOUTS))
    dy = laid_out(normal(*x.shape), draw(LAYOUTS))
    if draw(st.integers(0, 4)) == 0:
        dy = normal(1, c, *(1 for _ in sides)).expand(x.shape)
    mean_logits, var_logits = (normal(len(statistics)) for _ in range(2))
    weight = normal(c) if draw(st.booleans()) else None
    bias = normal(c) if draw(st.booleans()) else None
    return Case(x, dy, statistics, mean_logits, var_logits, weight, bias, options, offset)


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Equal up to a share of the largest number of the tensor, or of 1 where all are smaller."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    atol = tolerance * max(1.0, float(theirs.detach().abs().max()) if theirs.numel() else 0.0)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@given(cases())
def test_agrees_with_the_definitions(case: Case) -> None:
    leaves = case.leaves()
    for leaf in leaves:
        leaf.requires_grad_()
    ours = normalize(*case.arguments(), **case.options)
    theirs, batch_mean, batch_var = reference(*case.arguments(), **case.options)
    # An offset of 1e4 costs 4 of float64's 16 digits, and a variance of eps multiplies the rest by 1 / sqrt(eps) = 316,
    # its gradient by the cube of that relative to the deviations.
    tolerance = 1e-9 if case.offset == 1e4 else 1e-11
    close(ours.y, theirs, tolerance)
    found = torch.autograd.grad(ours.y, leaves, case.dy, allow_unused=True, materialize_grads=True)
    expected = torch.autograd.grad(theirs, leaves, case.dy, allow_unused=True, materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        close(a, b, 100 * tolerance)
    if "batch" in case.statistics and "running" not in case.options:
        assert ours.batch_mean is not None
        assert ours.batch_var is not None
        assert not ours.batch_mean.requires_grad
        close(ours.batch_mean, batch_mean, 1e-12)
        if case.options["unbiased"]:
            close(ours.batch_var, batch_var, tolerance)
    else:
        assert ours.batch_mean is None
        assert ours.batch_var is None


@given(cases(), st.sampled_from((torch.float32, torch.bfloat16, torch.float16)))
def test_keeps_dtype_and_memory_format(case: Case, dtype: torch.dtype) -> None:
    x = case.x.to(dtype)
    y = normalize(x, *case.arguments()[1:], **case.options).y
    assert y.dtype == dtype
    assert y.shape == x.shape
    for memory_format, dims in ((torch.channels_last, 4), (torch.channels_last_3d, 5), (torch.contiguous_format, 0)):
        if x.dim() == dims or not dims:
            assert y.is_contiguous(memory_format=memory_format) or not x.is_contiguous(memory_format=memory_format)
    # The result is that of exact arithmetic on the rounded input, rounded once: an ulp of the output.
    if dtype != torch.float32 and case.offset != 1e4:
        exact = normalize(x.double(), *case.arguments()[1:], **case.options).y
        ulp = torch.finfo(dtype).eps
        torch.testing.assert_close(y.double(), exact, rtol=ulp, atol=1e-3)


TORCH = {
    "batch": lambda dims, c: (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](c, momentum=1),
    "layer": lambda dims, c: nn.GroupNorm(1, c),
    "group:2": lambda dims, c: nn.GroupNorm(2, c),
    "instance": lambda dims, c: (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1](c, affine=True),
}


@pytest.mark.parametrize(
    ("statistic", "shape"),
    [
        (statistic, shape)
        for statistic in TORCH
        for shape in [(5, 6), (4, 6, 7), (4, 6, 3, 5), (2, 6, 3, 1, 2), (3, 6, 1, 2)]
        if len(shape) > 2 or statistic != "instance"  # a flat input has no instance statistic, here and in torch
    ],
)
def test_population_variances_agree_with_torch(statistic: str, shape: tuple[int, ...]) -> None:
    theirs = TORCH[statistic](max(len(shape) - 2, 1), shape[1]).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    x, dy = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    ours = normalize(x, (statistic,), weight=theirs.weight, bias=theirs.bias, unbiased=False)
    expected = theirs(x)
    close(ours.y, expected, 1e-12)
    leaves = (x, theirs.weight, theirs.bias)
    for a, b in zip(torch.autograd.grad(ours.y, leaves, dy), torch.autograd.grad(expected, leaves, dy), strict=True):
        close(a, b, 1e-11)
    if statistic == "batch":
        assert ours.batch_mean is not None
        assert ours.batch_var is not None
        close(ours.batch_mean, theirs.running_mean, 1e-12)
        close(ours.batch_var, theirs.running_var, 1e-12)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("statistics", "ghost"), [(SN, None), (SN, 2), (("batch",), 3), *(((s,), None) for s in SINGLE)], ids=str
)
def test_a_large_offset_keeps_the_digits(statistics: tuple[str, ...], ghost: int | None, training: bool) -> None:
    """x holds 1e4 to 1/1024 in float32: a mean rounded likewise shifts y by at most half of that."""
    # Maps large enough that no variance is small by chance.
    x = (1e4 + torch.randn(7, 8, 9, 9)).requires_grad_()
    dy = torch.randn(x.shape)
    importance = [torch.randn(len(statistics)).softmax(0) for _ in range(2)]
    options: dict[str, Any] = {"ghost": ghost if training else None}
    if not training:
        options["running"] = (1e4 + torch.randn(8), 0.5 + torch.rand(8))
    y = normalize(x, statistics, *importance, **options).y
    (dx,) = torch.autograd.grad(y, x, dy)
    wide = x.detach().double().requires_grad_()
    if not training:
        options["running"] = tuple(table.double() for table in options["running"])
    exact = normalize(wide, statistics, *(t.double() for t in importance), **options).y
    (exact_dx,) = torch.autograd.grad(exact, wide, dy.double())
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-3)
    torch.testing.assert_close(dx.double(), exact_dx, rtol=0, atol=1e-3)


def test_moments_do_not_cancel() -> None:
    x = 1e4 + torch.randn(3, 4, 50, 50)
    mean, var = moments(x)
    torch.testing.assert_close(mean, x.double().mean((2, 3)).float(), rtol=1e-7, atol=0)
    torch.testing.assert_close(var, x.double().var((2, 3), correction=0).float(), rtol=1e-5, atol=0)


GRADCHECKS: list[tuple[tuple[int, ...], tuple[str, ...], dict[str, Any]]] = [
    *(((3, 4, 2, 2), (name,), {}) for name in SINGLE),
    *(((3, 4, 2, 2), (name,), {"unbiased": False}) for name in SINGLE),
    ((3, 4, 2, 2), SN, {}),
    ((5, 2, 3), SN, {"ghost": 2}),
    ((5, 2, 3), ("batch",), {"ghost": 3, "unbiased": False}),
    ((4, 3), ("layer", "batch"), {}),
    ((3, 2, 1, 1), SN, {}),
    ((1, 4, 2, 1, 2), (*SN, "group:2"), {}),
    ((2, 2, 3), SN, {"running": (torch.tensor([0.3, -1.0]).double(), torch.tensor([0.7, 2.0]).double())}),
]


@pytest.mark.parametrize(("shape", "statistics", "options"), GRADCHECKS, ids=str)
def test_gradients_of_first_and_second_order(
    shape: tuple[int, ...], statistics: tuple[str, ...], options: dict[str, Any]
) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    logits = [torch.randn(len(statistics), dtype=torch.float64, requires_grad=True) for _ in range(2)]
    affine = [torch.randn(shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def y(x: Tensor, mean_logits: Tensor, var_logits: Tensor, *affine: Tensor) -> Tensor:
        importance = mean_logits.softmax(0), var_logits.softmax(0)
        return normalize(x, statistics, *importance, *affine, eps=1e-2, **options).y

    assert torch.autograd.gradcheck(y, (x, *logits, *affine))
    assert torch.autograd.gradgradcheck(y, (x, *logits, *affine))


@pytest.mark.parametrize("statistics", [SN, ("instance",), ("layer",), ("group:1", "batch"), ("batch",)], ids=str)
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 1, 1, 1), (2, 1, 1), (1, 1, 3, 3), (2, 4, 1, 1), (1, 3)], ids=str)
def test_the_smallest_inputs_are_finite(statistics: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Where a variance is that of one element, it is 0, and the gradients are finite."""
    if len(shape) == 2:
        statistics = tuple(s for s in statistics if s != "instance") or ("layer",)
    x = torch.randn(shape, requires_grad=True)
    importance = [torch.full((len(statistics),), 1 / len(statistics), requires_grad=True) for _ in range(2)]
    if statistics == ("batch",) and shape[0] * torch.Size(shape[2:]).numel() == 1:
        with pytest.raises(InputError, match="more than one element per channel"):
            normalize(x, statistics, *importance)
        return
    y, *batch = normalize(x, statistics, *importance)
    assert y.isfinite().all()
    assert all(table.isfinite().all() for table in batch if table is not None)
    for gradient in torch.autograd.grad(y, (x, *importance), torch.randn(shape), allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("ghost", [None, 2])
@pytest.mark.parametrize("statistics", [SN, ("batch",), ("group:2",)], ids=str)
@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (0, 4), (0, 4, 1), (2, 4, 0, 3), (5, 4, 3, 0)], ids=str)
def test_empty_inputs(shape: tuple[int, ...], statistics: tuple[str, ...], ghost: int | None) -> None:
    if len(shape) == 2:
        statistics = tuple(s for s in statistics if s != "instance")
    x = torch.empty(shape, requires_grad=True)
    importance = [torch.full((len(statistics),), 1 / len(statistics), requires_grad=True) for _ in range(2)]
    affine = [torch.randn(4, requires_grad=True) for _ in range(2)]
    y, *batch = normalize(x, statistics, *importance, *affine, ghost=ghost)
    assert y.shape == x.shape
    assert all(table.isfinite().all() for table in batch if table is not None)
    y.sum().backward()
    for leaf in (*importance, *affine):
        assert leaf.grad is not None
        assert (leaf.grad == 0).all()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ("statistics", "running"),
    [(("instance",), False), (("layer", "group:2"), False), (SN, True), (("batch",), True)],
    ids=str,
)
def test_samples_that_share_no_statistics_do_not_touch_each_other(statistics: tuple[str, ...], running: bool) -> None:
    """Neither a NaN nor a huge offset in one sample of a batch changes a bit of another one's result."""
    x = torch.randn(3, 4, 5, 5)
    importance = [torch.full((len(statistics),), 1 / len(statistics)) for _ in range(2)]
    options = {"running": (torch.randn(4), torch.rand(4))} if running else {}
    y = normalize(x, statistics, *importance, **options).y
    for spoiled in (float("nan"), float("inf"), 1e20):
        x[1] = spoiled
        torch.testing.assert_close(normalize(x, statistics, *importance, **options).y[::2], y[::2], rtol=0, atol=0)


def test_ghosts_are_the_batches_of_separate_calls() -> None:
    x = torch.randn(7, 4, 3, 3, dtype=torch.float64)
    importance = [torch.randn(3).double().softmax(0) for _ in range(2)]
    for ghost in (1, 2, 3, 7, 9):
        whole = normalize(x, SN, *importance, ghost=ghost)
        parts = [normalize(part, SN, *importance) for part in x.split(ghost)]
        close(whole.y, torch.cat([part.y for part in parts]), 1e-13)
        for name in ("batch_mean", "batch_var"):
            close(getattr(whole, name), torch.stack([getattr(part, name) for part in parts]).mean(0), 1e-13)


ERRORS: list[tuple[tuple[int, ...], Any, int | None, str]] = [
    ((4, 6, 3, 3), ("instanec",), None, "statistic 'instanec' is unknown; did you mean 'instance'?"),
    ((4, 6, 3, 3), ("group:4",), None, "4 groups do not divide 6 channels; the nearest group counts are 3 or 6"),
    ((4, 6, 3, 3), ("layer", "batch"), None, "2 statistics need as many importance weights, got 1"),
    ((1, 6), ("batch",), None, r"more than one element per channel, got input \(1, 6\)"),
    ((4, 6), ("batch",), 1, r"got input \(4, 6\) in ghost batches of 1"),
    # The last ghost batch holds a single sample.
    ((5, 6), ("batch",), 2, r"got input \(5, 6\) in ghost batches of 2"),
]


@pytest.mark.parametrize(("shape", "statistics", "ghost", "message"), ERRORS, ids=str)
def test_errors(shape: tuple[int, ...], statistics: tuple[str, ...], ghost: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        normalize(torch.randn(shape), statistics, ghost=ghost)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ((), "statistics is empty; choose from"),
        (("batch", "layer", "batch"), "'batch' is given 2 times"),
        (("group:",), "did you mean 'group:32'"),
        (("group:0",), "the nearest group count is 1"),
        (("Batch",), "did you mean 'batch'"),
        (("x",), "choose from instance, layer, batch"),
    ],
)
def test_statistics_are_checked(statistics: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        check_statistics(statistics, 6)
    assert "\n" not in str(error.value)
    assert check_statistics("layer", 6) == ("layer",)
    assert check_statistics(["group:3", "batch"], 6) == ("group:3", "batch")
    assert check_groups(6, 6) == 6
