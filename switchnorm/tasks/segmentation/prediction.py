"""From a segmentation network to the class of every pixel: scales, mirrors and windows averaged, memory bounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from switchnorm.data.segmentation import IGNORED, Scene
from switchnorm.tasks.segmentation.inference import Inference, bands, stitched

#: Pictures (N, 3, h, w) -> {"out": logits (N, K, h', w')}, the output of a segmentation network.
Network = Callable[[Tensor], Mapping[str, Tensor]]

#: Elements of the largest tensor on the way to probabilities: on a CPU what its cache holds, else what fills a device.
_ELEMENTS, _ELEMENTS_ON_CPU = 2**25, 2**20
#: Pixels that a network gets in one call, where a single picture has no more.
_PIXELS = 2**20


class Found(NamedTuple):
    """The prediction for a scene."""

    labels: Tensor
    """(height, width) uint8: the class of each pixel, at the picture's original size."""
    loss: float
    """Sum of the negative log-likelihood over the pixels whose target is a class; 0 without a target."""


def predict(
    network: Network, scenes: Iterable[Scene], inference: Inference | None = None
) -> Iterator[tuple[Scene, Found]]:
    """The class of every pixel of every scene: the likeliest on average over sizes, mirrors and windows.

    Scenes whose pictures have the same shapes share calls of the network, so they may come in another order.

    Args:
        network: in evaluation mode.
        scenes: pictures and targets, on the network's device.
        inference: how the network is run; on whole pictures by default.

    Yields:
        Every scene, and what was found.

    Raises:
        InputError: the network's resolution does not fit sliding windows.
    """
    inference = inference or Inference()
    for together in _alike(scenes):
        stacks = [torch.stack(pictures) for pictures in zip(*(scene.pictures for scene in together), strict=True)]
        logits = [each for pictures in stacks for each in view_logits(network, pictures, inference)]
        for place, scene in enumerate(together):
            yield scene, _find(scene, [each[place] for each in logits])


def _alike(scenes: Iterable[Scene]) -> Iterator[list[Scene]]:
    """Scenes whose pictures have the same shapes, no more than may share a call."""
    by_shapes: dict[tuple[torch.Size, ...], list[Scene]] = {}
    for scene in scenes:
        by_shapes.setdefault(tuple(picture.shape for picture in scene.pictures), []).append(scene)
    for shapes, alike in by_shapes.items():
        count = max(1, _PIXELS // max(height * width for _, height, width in shapes))
        for start in range(0, len(alike), count):
            yield alike[start : start + count]


def _find(scene: Scene, logits: Sequence[Tensor]) -> Found:
    labels = torch.empty(scene.size, dtype=torch.uint8, device=logits[0].device)
    losses: list[Tensor] = []
    for rows, shares in probabilities(logits, scene.size):
        labels[rows] = shares.max(0).indices  # several times as fast as argmax over the first axis
        if scene.target is not None:
            losses.append(_loss(shares, scene.target[rows]))
    if scene.target is None:
        return Found(labels, 0.0)
    return Found(labels, math.fsum(torch.cat(losses).tolist()))


def _loss(shares: Tensor, truth: Tensor) -> Tensor:
    """Sums of the negative log-likelihood, one per row: (K, rows, width) and (rows, width) uint8 -> (rows,).

    Each row is added up by one thread, so that their number does not change how the sums are rounded.
    """
    counts = truth != IGNORED
    likelihood = shares.gather(0, torch.where(counts, truth, 0).long()[None])[0]
    return -likelihood.clamp_min(torch.finfo(likelihood.dtype).tiny).log().mul(counts).sum(1)


def probabilities(logits: Sequence[Tensor], size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """The mean probability of each class at the picture's own size, a band of rows after the other.

    Every set of logits is resized (bilinear, `align_corners=False`) and its softmax taken before the mean. No tensor on
    the way has more than 2**25 elements (2**20 on a CPU), or than three rows of all classes where these are more.

    Args:
        logits: of one picture, each (K, h, w) with its own h and w.
        size: height and width to predict at.

    Yields:
        A slice of rows, and their probabilities (K, rows, width), float32 (float64 for float64 logits).
    """
    height, width = size
    plans = [_Lines.between(each.shape[1], height, each) for each in logits]
    most = _ELEMENTS_ON_CPU if logits[0].device.type == "cpu" else _ELEMENTS
    for rows in bands(size, [tuple(each.shape) for each in logits], most):
        total = _band(logits[0], plans[0], rows, width)
        for each, plan in zip(logits[1:], plans[1:], strict=True):
            total += _band(each, plan, rows, width)
        yield rows, total.div_(len(logits))


class _Lines(NamedTuple):
    """Which two rows of logits each row of the resized ones lies between."""

    above: Tensor
    below: Tensor
    share: Tensor
    """Of the row below, (rows, 1)."""
    first: list[int]
    """`above`, where reading it does not wait for a device."""

    @classmethod
    def between(cls, source: int, target: int, logits: Tensor) -> _Lines:
        """Of `source` rows resized to `target`, on the logits' device and in the precision of `_band`."""
        place = ((torch.arange(target, dtype=torch.float64) + 0.5) * (source / target) - 0.5).clamp_min(0)
        above = place.long()
        share = (place - above)[:, None].to(_precise(logits))
        below = (above + 1).clamp_max(source - 1)
        device = logits.device
        return cls(above.to(device), below.to(device), share.to(device), above.tolist())


def _band(logits: Tensor, lines: _Lines, rows: slice, width: int) -> Tensor:
    """Probabilities of a band, (K, rows, width): the columns of its few source rows first, then the rows."""
    first, last = lines.first[rows.start], min(lines.first[rows.stop - 1] + 1, logits.shape[1] - 1)
    source = logits[:, first : last + 1].to(_precise(logits))
    wide = F.interpolate(source[None], (source.shape[1], width), mode="bilinear", align_corners=False)[0]
    above, below = (wide.index_select(1, side[rows] - first) for side in (lines.above, lines.below))
    return _softmax_in_place(below.sub_(above).mul_(lines.share[rows]).add_(above))


def _softmax_in_place(logits: Tensor) -> Tensor:
    """The softmax over the first axis.

    Over that axis torch's own rounds the last elements of a thread's share in another way than the rest, and sums over
    it in an order that depends on the place of a column. Here a pixel's probability depends on its logits alone.
    """
    shares = logits.sub_(logits.amax(0)).exp_()
    total = shares[0].clone()
    for each in shares[1:]:
        total += each
    return shares.div_(total)


def _precise(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _zeros(logits: Tensor, shape: tuple[int, ...]) -> Tensor:
    return logits.new_zeros(shape, dtype=_precise(logits))


@torch.no_grad()
def view_logits(network: Network, pictures: Tensor, inference: Inference) -> list[Tensor]:
    """The logits of pictures, and of their mirror images mirrored back.

    Args:
        network: in evaluation mode.
        pictures: (N, 3, height, width).
        inference: how the network is run.

    Returns:
        One or two tensors (N, K, h, w) at the network's own resolution.

    Raises:
        InputError: the network's resolution does not fit sliding windows.
    """

    def logits(shown: Tensor) -> Tensor:
        if inference.window is None or max(shown.shape[2:]) <= inference.window:
            return network(shown)["out"]
        window, overlap = inference.window, inference.overlap
        return stitched(lambda part: network(part)["out"], shown, window, overlap, _zeros)

    return [logits(pictures), logits(pictures.flip(3)).flip(3)] if inference.flip else [logits(pictures)]
