"""The fast path on a CPU, made of PyTorch's own operations.

Given statistics, the vectorised loops of Batch Norm compute any affine map per channel, and those of its backward pass
any pair of sums. To them a contiguous (N, C, L) is one sample with N * C channels. Channels-last has no such view:
every sample is a call of its own or, where calls take longer than the work, whole tensors go through plain operations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import Kernel, Moments, Operands, maps
from switchnorm.ops.moments import map_size
from switchnorm.ops.rule import Rule, Weights
from switchnorm.ops.statistics import Table

_batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default
_batch_norm_into = torch.ops.aten.native_batch_norm.out

#: |mean| / deviation of a map from which sums about 0 lose digits that sums about the mean keep.
FAR = 4.0
#: |mean| * scale of a far map from which x * scale + shift loses digits that (x - mean) * scale keeps.
FAR_SHIFT = 64.0
#: Elements of far maps that are summed again at a time, so that they stay in the cache.
LOOK_AGAIN = 1 << 18
#: Most elements that are summed to one number: Batch Norm has one float32 accumulator per vector lane, and its rounding
#: errors add up.
LONGEST_SUM = 4096
#: Elements of contiguous x up to which two simple passes, in the cache, are faster than one of Batch Norm's.
SMALL = 1 << 21
#: Elements of a channels-last sample from which a call per sample is worth it.
SAMPLE = 1 << 17
#: Elements of channels-last x up to which the product dy * x is made whole, as a temporary tensor.
WHOLE = 1 << 20
#: Elements of that temporary tensor for larger x: the products of its pieces are added up in it, within the cache.
FOLDED = 1 << 18


class CpuKernel(Kernel):
    """float32 and float64 on the CPU."""

    name: ClassVar[str] = "cpu"

    def refusal(self, x: Tensor) -> str | None:
        """It takes float32 and float64 on the CPU."""
        if x.device.type != "cpu":
            return f"the input is on {x.device.type}"
        if x.dtype not in (torch.float32, torch.float64):
            return f"it takes float32 and float64, not {str(x.dtype).removeprefix('torch.')}"
        return None

    def weights(self, importance: Tensor | None, like: Tensor, factor: float = 1.0) -> Weights:
        """Python numbers: on a CPU reading them waits for nothing, and arithmetic with them is cheaper."""
        return (factor,) if importance is None else [factor * weight for weight in importance.tolist()]

    def needed(self, operands: Operands, rule: Rule) -> tuple[Operands, Rule]:
        """Leaves out statistics whose importance is 0 and needs no gradient."""
        mean, var = operands.mean_importance, operands.var_importance
        if mean is None or var is None or (torch.is_grad_enabled() and (mean.requires_grad or var.requires_grad)):
            return operands, rule
        means, variances = mean.tolist(), var.tolist()
        # In training, running statistics are updated from the batch statistic even where its importance is 0.
        tracked = None if operands.running is not None else "batch"
        used = [k for k, name in enumerate(rule.statistics) if means[k] != 0 or variances[k] != 0 or name == tracked]
        if len(used) in (0, len(rule.statistics)):
            return operands, rule
        return (
            operands._replace(mean_importance=mean[used], var_importance=var[used]),
            rule._replace(statistics=tuple(rule.statistics[k] for k in used)),
        )

    def moments(self, x: Tensor, factor: float) -> Moments:
        """Sums and sums of squares in one read; maps where these lose digits are summed again about their mean."""
        size = map_size(x)
        if size == 1:
            mean = x.view(x.shape[:2]).contiguous()
            return Moments(mean, torch.zeros_like(mean), far=True)
        mean, var = _sums(x, x, None, factor / size)
        mean /= size
        var.addcmul_(mean, mean, value=-factor)
        margin = torch.addcmul(var, mean, mean, value=-factor * FAR**-2)
        if margin.min().item() >= 0:
            return Moments(mean, var, far=False)
        far, x = margin < 0, maps(x)
        for some in far.nonzero().split(max(1, LOOK_AGAIN // size)):
            at = tuple(some.unbind(1))
            centre = mean[at]
            rows = x[at] - centre[:, None]
            shift = rows.mean(1)
            mean[at] = centre + shift
            var[at] = (rows.square_().mean(1) - shift.square()).mul_(factor)
        return Moments(mean, var, far.any(1, keepdim=True))

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None, far: Tensor | bool) -> Tensor:
        """One vectorised pass; more for samples where it loses digits."""
        offset = torch.addcmul(scale.new_zeros(()) if shift is None else shift, centre, scale, value=-1)
        y = _scaled_and_shifted(x, scale, offset)
        for n in () if far is False else _lost(far, centre * scale):
            part = torch.sub(maps(x)[n], centre[n, :, None], out=maps(y)[n]).mul_(scale[n, :, None])
            if shift is not None:
                part += shift[:, None]
        return y

    def scaled(self, dy: Tensor, scale: Tensor) -> Tensor:
        """One vectorised pass."""
        return torch.mul(dy, _over_maps(scale, dy), out=torch.empty_like(dy))

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor, far: Tensor | bool) -> Table:
        """Both sums in one pass."""
        return _sums(dy, x, centre, scale, far)

    def combine(
        self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor, far: Tensor | bool
    ) -> Tensor:
        """Two passes, the second in place; more for samples where these lose digits."""
        dx = _scaled_and_shifted(dy, a, torch.addcmul(c, centre, b, value=-1))
        dx.addcmul_(x, _over_maps(b, x))
        # a is the forward pass's scale, so that these are the samples that lost digits there.
        for n in () if far is False else _lost(far, centre * a):
            part = torch.sub(maps(x)[n], centre[n, :, None], out=maps(dx)[n]).mul_(b[n, :, None])
            part.addcmul_(maps(dy)[n], a[n, :, None]).add_(c[n, :, None])
        return dx


def _lost(far: Tensor | bool, shift: Tensor) -> Iterable[int]:
    """The far samples of which x * scale + shift has lost digits."""
    lost = torch.linalg.vector_norm(shift, float("inf"), 1) > FAR_SHIFT
    return (lost & far[:, 0] if isinstance(far, Tensor) else lost).nonzero()[:, 0].tolist()


def _over_maps(table: Tensor, x: Tensor) -> Tensor:
    """A table (N, C) as it broadcasts against x (N, C, *S)."""
    return table.view(*table.shape, *(1,) * (x.dim() - 2))


def _sums(dy: Tensor, x: Tensor, centre: Tensor | None, scale: Tensor | float, far: Tensor | bool = True) -> Table:
    """Sums of dy and of dy * (x - centre) * scale over each map; without a centre, of dy * x * scale."""
    if not x.is_contiguous():
        return _channels_last_sums(maps(dy), maps(x), centre, scale, far)
    n, c, size = *x.shape[:2], map_size(x)
    pieces = _pieces(size)
    view = (1, n * c * pieces, size // pieces)
    tables = []
    for table in (0.0 if centre is None else centre, scale):
        if isinstance(table, Tensor):
            table = (table.reshape(-1, 1).expand(-1, pieces) if pieces > 1 else table).reshape(-1)
        tables.append(table if isinstance(table, Tensor) else x.new_full(view[1:2], table))
    total, product = _channel_sums(dy.view(view), x.view(view), *tables)
    if pieces == 1:
        return total.view(n, c), product.view(n, c)
    return total.view(n, c, pieces).sum(2), product.view(n, c, pieces).sum(2)


def _channels_last_sums(
    dy: Tensor, x: Tensor, centre: Tensor | None, scale: Tensor | float, far: Tensor | bool
) -> Table:
    _, c, size = x.shape
    if c * size >= SAMPLE:
        return _sums_by_sample(dy, x, centre, scale)
    # Where no sample is far, sum(dy * x) - centre * sum(dy) is as exact as sum(dy * (x - centre)), and cheaper.
    moved = centre is not None and far is False
    total = dy.sum(2)
    parts = 1 if x.numel() <= WHOLE else -(-x.numel() // FOLDED)
    product = _folded_product(dy, x, None if moved else centre, -(-size // parts)).sum(2)
    if centre is not None and moved:
        product.addcmul_(centre, total, value=-1)
    return total, product.mul_(scale)


def _folded_product(dy: Tensor, x: Tensor, centre: Tensor | None, length: int) -> Tensor:
    """dy * (x - centre), added up over pieces of at most that length of each map."""
    folded = None
    for piece_of_dy, piece in zip(dy.split(length, 2), x.split(length, 2), strict=True):
        distance = piece if centre is None else piece - centre[..., None]
        if folded is None:
            folded = piece_of_dy * distance
        else:
            folded[..., : piece.shape[2]].addcmul_(piece_of_dy, distance)
    assert folded is not None
    return folded


def _sums_by_sample(dy: Tensor, x: Tensor, centre: Tensor | None, scale: Tensor | float) -> Table:
    """The sums for each channels-last sample as (1, C, l, 1), cut to at most `LONGEST_SUM` elements a map."""
    n, c, size = x.shape
    tables = [
        table.unbind() if isinstance(table, Tensor) else [x.new_full((c,), table)] * n
        for table in (0.0 if centre is None else centre, scale)
    ]
    pieces = -(-size // LONGEST_SUM)
    sums = [
        _channel_sums(piece_of_dy, piece, *of_sample)
        for sample_of_dy, sample, *of_sample in zip(dy[..., None].split(1), x[..., None].split(1), *tables, strict=True)
        for piece_of_dy, piece in zip(sample_of_dy.split(LONGEST_SUM, 2), sample.split(LONGEST_SUM, 2), strict=True)
    ]
    total, product = (torch.stack(each) for each in zip(*sums, strict=True))
    if pieces == 1:
        return total, product
    return total.view(n, pieces, c).sum(1), product.view(n, pieces, c).sum(1)


def _channel_sums(dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor) -> Table:
    """Sums of dy and of dy * (x - centre) * scale per channel: gradients of Batch Norm's bias and weight."""
    # For channels-last input PyTorch takes the tables for contiguous, and would read beyond the end of expanded ones.
    centre, scale = centre.contiguous(), scale.contiguous()
    _, product, total = _batch_norm_backward(dy, x, None, None, None, centre, scale, True, 0.0, [False, True, True])
    return total, product


def _scaled_and_shifted(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift, in new memory laid out as x."""
    out = torch.empty_like(x)
    if not x.is_contiguous():
        return torch.addcmul(_over_maps(shift, x), x, _over_maps(scale, x), out=out)
    if x.numel() <= SMALL:
        return torch.mul(x, _over_maps(scale, x), out=out).add_(_over_maps(shift, x))
    n, c = x.shape[:2]
    view = (1, n * c, -1)
    zero, none = x.new_zeros(n * c), x.new_empty(0)
    # A running mean and variance of 0 with an eps of 1 normalize nothing, so that only scale and shift act.
    _batch_norm_into(
        x.view(view),
        scale.reshape(-1).contiguous(),
        shift.reshape(-1).contiguous(),
        *(zero, zero, False, 0.0, 1.0),
        out=out.view(view),
        save_mean=none,
        save_invstd=none,
    )
    return out


def _pieces(size: int) -> int:
    """Into how many equal pieces of at most `LONGEST_SUM` elements a map is cut; 1 where it has no such divisor."""
    if size <= LONGEST_SUM:
        return 1
    smallest = -(-size // LONGEST_SUM)
    return next((k for k in range(smallest, 8 * smallest) if size % k == 0), 1)
