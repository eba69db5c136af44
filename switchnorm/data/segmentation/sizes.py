"""To which sizes pictures with masks are resized. Sizes are (height, width) in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switchnorm.data.augment.sizes import Size, common, fitted
from switchnorm.data.counter import Stream, integers, uniform


@dataclass(frozen=True)
class TrainingSizes:
    """To which sizes training resizes pictures, and how large their batches are.

    Args:
        sides: the short sides from which each batch draws one; none keeps the pictures' sizes.
        longest: the longest side after that; None for no bound.
        scale: least and greatest random factor, uniform, that each picture is resized by besides; None for none.
        crop: size of the windows that are cut out then; None takes whole pictures.
        multiple: of which the sides of a batch are multiples.
    """

    sides: tuple[int, ...]
    longest: int | None
    scale: tuple[float, float] | None
    crop: Size | None
    multiple: int

    def of_batch(self, seed: int, pass_index: int, place: int, index: Tensor, sizes: Tensor) -> list[Size]:
        """The sizes to which a batch's pictures are resized.

        Args:
            seed: the run's seed.
            pass_index: the pass over the data.
            place: the batch's place in the pass; with seed and pass it decides the short side.
            index: (N,) int64, the samples' places in the dataset; with seed and pass they decide the factor.
            sizes: (N, 2) int64, the sizes of the files.
        """
        side = None
        if self.sides:
            drawn = integers(seed, pass_index, torch.tensor([place]), Stream.SHORT_SIDE, len(self.sides))
            side = self.sides[int(drawn)]
        targets = [fitted((height, width), side, self.longest) for height, width in sizes.tolist()]
        if self.scale is None:
            return targets
        low, high = self.scale
        factors = (low + (high - low) * uniform(seed, pass_index, index, Stream.SCALE)).tolist()
        return [_scaled(size, factor) for size, factor in zip(targets, factors, strict=True)]

    def canvas(self, targets: Sequence[Size]) -> Size:
        """The size of a batch of pictures that were resized to `targets`."""
        return self.crop if self.crop is not None else common(targets, self.multiple)

    def may_pad(self, size: Size) -> bool:
        """Whether a picture of that size can be smaller than the windows when it is resized."""
        if self.crop is None:
            return False
        factor = 1.0 if self.scale is None else self.scale[0]
        least = (_scaled(fitted(size, side, self.longest), factor) for side in self.sides or (None,))
        return any(height < self.crop[0] or width < self.crop[1] for height, width in least)

    def largest(self, sizes: Iterable[Size]) -> Size:
        """The largest size that a batch of pictures of `sizes` can have."""
        if self.crop is not None:
            return self.crop
        factor = 1.0 if self.scale is None else self.scale[1]
        return common(
            (_scaled(fitted(size, side, self.longest), factor) for size in sizes for side in self.sides or (None,)),
            self.multiple,
        )


def _scaled(size: Size, factor: float) -> Size:
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)
