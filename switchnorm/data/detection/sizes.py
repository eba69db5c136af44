"""To which sizes training resizes pictures with objects. Sizes are (height, width) in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switchnorm.data.augment.sizes import Size, common, fitted
from switchnorm.data.counter import Stream, integers, uniform

#: Of which both sides of a batch are multiples: the coarsest stride of the networks' bodies.
MULTIPLE = 32


@dataclass(frozen=True)
class TrainingSizes:
    """To which sizes training resizes pictures, and how large their batches are.

    Args:
        sides: the short sides from which each batch draws one; none keeps the pictures' sizes.
        longest: the longest side after that; None for no bound.
        scale: least and greatest factor of large-scale jitter, instead of both; None for none.
        crop: side of the square to which the factors relate, and of the windows that are cut out then.
    """

    sides: tuple[int, ...]
    longest: int | None
    scale: tuple[float, float] | None = None
    crop: int | None = None

    def of_batch(
        self, seed: int, pass_index: int, place: int, index: Tensor, sizes: Iterable[Sequence[int]]
    ) -> list[Size]:
        """The sizes to which a batch's pictures are resized.

        With `scale` that is how a picture fits into the square, times a uniform factor of its own (Ghiasi et al.,
        "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", 2021, section 3).

        Args:
            seed: the run's seed.
            pass_index: the pass over the data.
            place: the batch's place in the pass; with seed and pass it decides the short side.
            index: (N,) int64, what is drawn for; with seed and pass it decides the factor.
            sizes: of the N pictures.
        """
        whole = [(height, width) for height, width in sizes]
        if self.scale is None:
            side = self._side(seed, pass_index, place)
            return [fitted(size, side, self.longest) for size in whole]
        low, high = self.scale
        factors = (low + (high - low) * uniform(seed, pass_index, index, Stream.SCALE)).tolist()
        return [self._jittered(size, factor) for size, factor in zip(whole, factors, strict=True)]

    def _side(self, seed: int, pass_index: int, place: int) -> int | None:
        if not self.sides:
            return None
        return self.sides[int(integers(seed, pass_index, torch.tensor([place]), Stream.SHORT_SIDE, len(self.sides)))]

    def _jittered(self, size: Size, factor: float) -> Size:
        assert self.crop is not None
        factor *= self.crop / max(size)
        return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)

    def canvas(self, targets: Sequence[Size]) -> Size:
        """The size of a batch of pictures that were resized to `targets`."""
        return common(targets, MULTIPLE) if self.crop is None else (self.crop, self.crop)

    def largest(self, sizes: Iterable[Size]) -> Size:
        """The largest size that a batch of pictures of `sizes` can have."""
        if self.crop is not None:
            return self.crop, self.crop
        return common((fitted(size, side, self.longest) for size in sizes for side in self.sides or (None,)), MULTIPLE)
