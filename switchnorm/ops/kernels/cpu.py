"""The fast path on a CPU, out of operations that PyTorch has.

With statistics given, the vectorised loops of Batch Norm compute any affine map and any pair of sums per channel. A
contiguous (N, C, L) is one sample of N C channels to them. Channels-last has no such view: there each sample is one
call, or, where calls would take longer than the work, whole-tensor operations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import Kernel, Moments, maps
from switchnorm.ops.rule import Weights
from switchnorm.ops.statistics import Table

_batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default
_batch_norm_into = torch.ops.aten.native_batch_norm.out

#: |mean| / deviation of a map from which sums about 0 lose digits that sums about the mean keep.
FAR = 4.0
#: |mean| * scale of a far map from which x * scale + shift loses digits that (x - mean) * scale keeps.
FAR_SHIFT = 64.0
#: Elements that are looked at again at a time, so that they stay in the cache.
LOOK_AGAIN = 1 << 18
#: Elements of a map over which one float32 accumulator per vector lane still sums exactly enough.
LONGEST_SUM = 4096
#: Elements up to which two simple passes over contiguous maps, in the cache, beat one of Batch Norm's.
SMALL = 1 << 21
#: Elements of a channels-last sample from which a call per sample is worth it.
SAMPLE = 1 << 17
#: Elements of a temporary product of smaller samples: memory that large is new each time, and its pages are missing.
CHUNK = 1 << 18


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
        """Numbers: reading them waits for nothing here, and arithmetic with them is cheaper."""
        return (factor,) if importance is None else [factor * weight for weight in importance.tolist()]

    def moments(self, x: Tensor) -> Moments:
        """Sums and sums of squares in one read; a second look, about the mean, at maps where these cancel."""
        x = maps(x)
        size = x.shape[2]
        if size == 1:
            mean = x[:, :, 0].contiguous()
            return Moments(mean, torch.zeros_like(mean), far=True)
        mean, square = _sums(x, x, None)
        mean /= size
        var = square.div_(size).addcmul_(mean, mean, value=-1)
        margin = torch.addcmul(var, mean, mean, value=-(FAR**-2))
        if margin.min().item() >= 0:
            return Moments(mean, var, far=False)
        far = margin < 0
        for some in far.nonzero().split(max(1, LOOK_AGAIN // size)):
            at = tuple(some.unbind(1))
            centre = mean[at]
            rows = x[at] - centre[:, None]
            shift = rows.mean(1)
            mean[at] = centre + shift
            var[at] = rows.square_().mean(1) - shift.square()
        return Moments(mean, var, far.any(1, keepdim=True))

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None, far: Tensor | bool) -> Tensor:
        """One vectorised pass; more for samples where it loses digits."""
        y = torch.empty_like(x)
        offset = torch.addcmul(scale.new_zeros(()) if shift is None else shift, centre, scale, value=-1)
        _scale_and_shift(maps(x), scale, offset, maps(y))
        for n in () if far is False else _lost(far, centre * scale):
            part = torch.sub(maps(x)[n], centre[n, :, None], out=maps(y)[n]).mul_(scale[n, :, None])
            if shift is not None:
                part += shift[:, None]
        return y

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, far: Tensor | bool) -> Table:
        """Both sums in one pass; about 0 and then moved where no sample is far."""
        if far is False:
            total, product = _sums(maps(dy), maps(x), None)
            return total, product.addcmul_(centre, total, value=-1)
        return _sums(maps(dy), maps(x), centre)

    def combine(
        self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor, far: Tensor | bool
    ) -> Tensor:
        """Two passes, the second in place; more for samples where these lose digits."""
        dx = torch.empty_like(x)
        _scale_and_shift(maps(dy), a, torch.addcmul(c, centre, b, value=-1), maps(dx))
        maps(dx).addcmul_(maps(x), b[..., None])
        # a is the scale of the forward pass, where the same samples lost digits.
        for n in () if far is False else _lost(far, centre * a):
            part = torch.sub(maps(x)[n], centre[n, :, None], out=maps(dx)[n]).mul_(b[n, :, None])
            part.addcmul_(maps(dy)[n], a[n, :, None]).add_(c[n, :, None])
        return dx


def _lost(far: Tensor | bool, shift: Tensor) -> Iterable[int]:
    """The far samples of which x * scale + shift has lost digits."""
    lost = torch.linalg.vector_norm(shift, float("inf"), 1) > FAR_SHIFT
    return (lost & far[:, 0] if isinstance(far, Tensor) else lost).nonzero()[:, 0].tolist()


def _rows(x: Tensor) -> bool:
    """Whether maps are contiguous, as opposed to channels-last."""
    return x.is_contiguous()


def _sums(dy: Tensor, x: Tensor, centre: Tensor | None) -> Table:
    """Sums of dy and of dy * (x - centre) over each map; without a centre, of dy * x."""
    n, c, size = x.shape
    if not _rows(x):
        return _channels_last_sums(dy, x, centre)
    pieces = _pieces(size)
    view = (1, n * c * pieces, size // pieces)
    if pieces > 1 and centre is not None:
        centre = centre.reshape(-1, 1).expand(-1, pieces)
    total, product = _channel_sums(dy.view(view), x.view(view), centre)
    if pieces == 1:
        return total.view(n, c), product.view(n, c)
    return total.view(n, c, pieces).sum(2), product.view(n, c, pieces).sum(2)


def _channels_last_sums(dy: Tensor, x: Tensor, centre: Tensor | None) -> Table:
    n, c, size = x.shape
    if c * size >= SAMPLE:
        return _sums_by_sample(dy, x, centre)
    step = max(1, CHUNK // (c * size))
    product = x.new_empty(n, c)
    for of_dy, of_x, out, start in zip(
        dy.split(step), x.split(step), product.split(step), range(0, n, step), strict=True
    ):
        if centre is None:
            torch.sum(of_x * of_dy, 2, out=out)
        else:
            torch.sum((of_x - centre[start : start + step, :, None]).mul_(of_dy), 2, out=out)
    return dy.sum(2), product


def _sums_by_sample(dy: Tensor, x: Tensor, centre: Tensor | None) -> Table:
    """The sums for each channels-last sample as (1, C, l, 1), cut to at most `LONGEST_SUM` elements a map."""
    n, c, size = x.shape
    centres = [x.new_zeros(c)] * n if centre is None else centre.unbind()
    one = x.new_ones(c)
    pieces = -(-size // LONGEST_SUM)
    sums = [
        _batch_norm_backward(piece_of_dy, piece, None, None, None, of_sample, one, True, 0.0, [False, True, True])
        for sample_of_dy, sample, of_sample in zip(dy[..., None].split(1), x[..., None].split(1), centres, strict=True)
        for piece_of_dy, piece in zip(sample_of_dy.split(LONGEST_SUM, 2), sample.split(LONGEST_SUM, 2), strict=True)
    ]
    total = torch.stack([of_bias for _, _, of_bias in sums])
    product = torch.stack([of_weight for _, of_weight, _ in sums])
    if pieces == 1:
        return total, product
    return total.view(n, pieces, c).sum(1), product.view(n, pieces, c).sum(1)


def _channel_sums(dy: Tensor, x: Tensor, centre: Tensor | None) -> Table:
    """Sums of dy and of dy * (x - centre) per channel: gradients of Batch Norm's bias and weight at deviation 1."""
    centre = x.new_zeros(x.shape[1]) if centre is None else centre.contiguous().view(-1)
    _, product, total = _batch_norm_backward(
        dy, x, None, None, None, centre, torch.ones_like(centre), True, 0.0, [False, True, True]
    )
    return total, product


def _scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    if not _rows(x):
        torch.addcmul(shift[..., None], x, scale[..., None], out=out)
        return
    if x.numel() <= SMALL:
        torch.mul(x, scale[..., None], out=out).add_(shift[..., None])
        return
    n, c, size = x.shape
    view = (1, n * c, size)
    zero, none = x.new_zeros(n * c), x.new_empty(0)
    # A running variance of 0 and an eps of 1 make a deviation of 1.
    _batch_norm_into(
        x.view(view),
        scale.contiguous().view(-1),
        shift.contiguous().view(-1),
        *(zero, zero, False, 0.0, 1.0),
        out=out.view(view),
        save_mean=none,
        save_invstd=none,
    )


def _pieces(size: int) -> int:
    """Into how many equal pieces of at most `LONGEST_SUM` elements a map is cut; 1 where it has no such divisor."""
    if size <= LONGEST_SUM:
        return 1
    smallest = -(-size // LONGEST_SUM)
    return next((k for k in range(smallest, 8 * smallest) if size % k == 0), 1)
