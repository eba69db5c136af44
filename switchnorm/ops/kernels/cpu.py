"""The fast path on a CPU, out of operations that PyTorch has.

With statistics given, the vectorised loops of Batch Norm compute any affine map and any pair of sums per channel. A
contiguous (N, C, L) is one sample of N C channels to them. Channels-last has no such view: there each sample is one call,
or, where calls would take longer than the work, whole-tensor operations.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import Kernel, maps
from switchnorm.ops.statistics import Table

_batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default
_batch_norm_into = torch.ops.aten.native_batch_norm.out

#: |mean| / deviation from which sums of squares lose digits that the square of differences keeps.
FAR = 4.0
#: |mean| * scale from which x * scale + shift loses digits that (x - mean) * scale keeps.
FAR_SHIFT = 64.0
#: Elements of a map over which one float32 accumulator per vector lane still sums exactly enough.
LONGEST_SUM = 4096
#: Elements of a channels-last sample from which a call per sample is worth it.
SAMPLE = 1 << 18


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

    def moments(self, x: Tensor) -> Table:
        """Sums and sums of squares in one read; a second look, about the mean, at samples where these cancel."""
        x = maps(x)
        size = x.shape[2]
        if size == 1:
            mean = x[:, :, 0].contiguous()
            return mean, torch.zeros_like(mean)
        mean, var = _raw_moments(x, size)
        # NaN counts as near, so that it passes through.
        margin = torch.addcmul(var, mean, mean, value=-(FAR**-2))
        if margin.min() < 0:
            for n in (margin.amin(1) < 0).nonzero().flatten().tolist():
                centre = mean[n : n + 1].clone()
                shifted, var[n] = _raw_moments(x[n : n + 1] - centre[..., None], size)
                mean[n] = (centre + shifted)[0]
        return mean, var

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        """One vectorised pass; two where the centre is far from 0."""
        y = torch.empty_like(x)
        offset = centre * scale
        if torch.linalg.vector_norm(offset, float("inf")) > FAR_SHIFT:
            torch.sub(maps(x), centre[..., None], out=maps(y)).mul_(scale[..., None])
            if shift is not None:
                maps(y).add_(shift[:, None])
        else:
            _scale_and_shift(maps(x), scale, offset.neg_() if shift is None else shift - offset, maps(y))
        return y

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor) -> Table:
        """Both sums in one pass."""
        return _sums(maps(dy), maps(x), centre)

    def combine(self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Two passes, the second in place."""
        dx = torch.empty_like(x)
        offset = centre * b
        if torch.linalg.vector_norm(offset, float("inf")) > FAR_SHIFT * torch.linalg.vector_norm(a, float("inf")):
            centred = torch.sub(maps(x), centre[..., None], out=maps(dx)).mul_(b[..., None])
            centred.addcmul_(maps(dy), a[..., None]).add_(c[..., None])
        else:
            _scale_and_shift(maps(dy), a, c - offset, maps(dx))
            maps(dx).addcmul_(maps(x), b[..., None])
        return dx


def _rows(x: Tensor) -> bool:
    """Whether maps are contiguous, as opposed to channels-last."""
    return x.is_contiguous()


def _raw_moments(x: Tensor, size: int) -> Table:
    mean, square = _sums(x, x, None)
    mean /= size
    square /= size
    return mean, square.addcmul_(mean, mean, value=-1)


def _sums(dy: Tensor, x: Tensor, centre: Tensor | None) -> Table:
    """Sums of dy and of dy * (x - centre) over each map; without a centre, of dy * x."""
    n, c, size = x.shape
    if _rows(x):
        pieces = _pieces(size)
        of_piece = None if centre is None else centre.reshape(-1, 1).expand(-1, pieces).reshape(-1)
        total, product = _channel_sums(
            dy.view(1, n * c * pieces, size // pieces), x.view(1, n * c * pieces, size // pieces), of_piece
        )
        if pieces == 1:
            return total.view(n, c), product.view(n, c)
        return total.view(n, c, pieces).sum(2), product.view(n, c, pieces).sum(2)
    if c * size < SAMPLE:
        difference = x if centre is None else x - centre[..., None]
        return dy.sum(2), (difference * dy if centre is None else difference.mul_(dy)).sum(2)
    total, product = x.new_empty(n, c), x.new_empty(n, c)
    for sample in range(n):
        total[sample], product[sample] = _channel_sums(
            dy[sample : sample + 1, :, :, None],
            x[sample : sample + 1, :, :, None],
            None if centre is None else centre[sample],
        )
    return total, product


def _channel_sums(dy: Tensor, x: Tensor, centre: Tensor | None) -> Table:
    """Sums of dy and of dy * (x - centre) per channel: the gradients of Batch Norm's bias and, with deviation 1, weight."""
    channels = x.shape[1]
    one = x.new_ones(channels)
    centre = x.new_zeros(channels) if centre is None else centre
    _, product, total = _batch_norm_backward(dy, x, one, None, None, centre, one, True, 0.0, [False, True, True])
    return total, product


def _scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    if not _rows(x):
        torch.addcmul(shift[..., None], x, scale[..., None], out=out)
        return
    n, c, size = x.shape
    view = (1, n * c, size)
    channels = n * c
    one, zero, none = x.new_ones(channels), x.new_zeros(channels), x.new_empty(0)
    _batch_norm_into(
        x.view(view),
        scale.reshape(-1),
        shift.reshape(-1),
        zero,
        one,
        False,
        0.0,
        0.0,
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
