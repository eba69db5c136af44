"""Normalization as it is defined, with loops, and drawn cases to compare it by."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

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
    ghost: int | tuple[int, ...] | None = None,
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

    sizes = part_sizes(ghost, n)
    ends = list(itertools.accumulate(sizes))
    ghosts = [range(end - size, end) for size, end in zip(sizes, ends, strict=True) if size]
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


def part_sizes(ghost: int | tuple[int, ...] | None, samples: int) -> list[int]:
    """The sizes of the parts of a batch, in their order."""
    if isinstance(ghost, tuple):
        return list(ghost)
    each = ghost or samples
    return [min(each, samples - start) for start in range(0, samples, each)]


@st.composite
def partitions(draw: st.DrawFn, samples: int) -> tuple[int, ...]:
    """Sizes of parts that add up to the samples, some of them 0."""
    ends = sorted(draw(st.lists(st.integers(0, samples), max_size=5)))
    return tuple(end - start for start, end in zip([0, *ends], [*ends, samples], strict=True))


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
    options["ghost"] = draw(st.one_of(st.none(), st.integers(1, n + 1), partitions(n)))
    if statistics == ("batch",) and torch.Size(sides).numel() == 1 and 1 in part_sizes(options["ghost"], n):
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
