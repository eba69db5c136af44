"""Datasets of pictures in files: which of their bands and numbers become pixels."""

import copy
import functools
import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.files.refusals import RAISED, Gathered, Refusals
from switchnorm.data.interpolation import Interpolation
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.files.listing import Paths
    from switchnorm.data.files.picture_file import Pixels

#: How torchvision resizes tensors, which pictures without three channels are.
_OF_TENSORS = ("nearest", "bilinear", "bicubic")
#: Channels of grey and of colours, whose brightness, contrast and saturation can change.
COLORED = (1, 3)
_GREATEST_BAND = 9999


class FromFiles(Dataset):
    """A dataset whose pictures are files. A subclass has these options among its fields:

    Args:
        bands: which bands of the files the network is shown, from 0; null for red, green and blue.
        range: the numbers of pictures with more than 8 bits that are black and white; null finds them in the data.
        color_jitter: how far brightness, contrast and saturation go from 1.
        on_damaged: stop at what is missing or damaged, or skip it.
    """

    bands: list[int] | None
    range: list[float] | None
    color_jitter: float
    on_damaged: Literal["stop", "skip"]

    #: What becomes of what training would stop at while files are found and lists are read.
    _refusals: ClassVar[Refusals] = RAISED

    def looked_at(self) -> Dataset:
        """As of `Dataset`: splits that can be read are."""
        looked_at = copy.copy(self)
        vars(looked_at).update(_refusals=Gathered())  # which hides that of the class
        return looked_at

    @property
    def refused(self) -> tuple[str, ...]:
        """As of `Dataset`."""
        return self._refusals.found

    @property
    def _may_miss(self) -> bool:
        """Whether files may be missing or damaged as they are found."""
        return self.on_damaged == "skip" or self._refusals.lenient

    @property
    def channels(self) -> int:
        """Channels of a picture: 3, or as many as `bands` names."""
        return 3 if self.bands is None else len(self.bands)

    @property
    def pixels(self) -> "Pixels":
        """What pictures become, as the options say it: what a run predicts with, whose options say all."""
        from switchnorm.data.files.picture_file import Pixels  # as `Dataset` explains

        bands = None if self.bands is None else tuple(self.bands)
        return Pixels(bands, None if self.range is None else (self.range[0], self.range[1]))

    def _read_as(self) -> dict[str, Any]:
        """Of `preparation`, how files become pixels."""
        pixels = self.pixels
        interpolation: Interpolation | None = getattr(self, "interpolation", None)
        return {"bands": pixels.bands, "range": pixels.range, "interpolation": interpolation or "bilinear"}

    def found_options(self) -> dict[str, Any]:
        """As of `Dataset`: the range."""
        found = self._found_pixels.range
        return {} if self.range is not None or found is None else {"range": list(found)}

    def unusual(self, *, training: bool = True) -> tuple[str, ...]:
        """As of `Dataset`: what becomes of bands and of numbers with more than 8 bits."""
        return (*super().unusual(training=training), *self._about_pixels(training))

    @property
    @abstractmethod
    def _pictures(self) -> "Paths":
        """The pictures that say for all what their numbers are; raises `InputError` where there are none."""

    @functools.cached_property
    def _found_pixels(self) -> "Pixels":
        """What pictures become: `pixels`, with the range that the data has where the options leave it open."""
        import dataclasses

        from switchnorm.data.files.pixel_range import find_range  # as `Dataset` explains

        pixels = self.pixels
        if pixels.range is not None:
            return pixels
        return dataclasses.replace(pixels, range=find_range(self._pictures, pixels.bands))

    @property
    def _color_jitter(self) -> float:
        """`color_jitter`; 0 for channels that are no colours."""
        return self.color_jitter if self.channels in COLORED else 0.0

    def _left_out(self) -> list[str]:
        """The options for which these pictures have not the colours."""
        return ["color_jitter"] if self.color_jitter and not self._color_jitter else []

    def _about_pixels(self, training: bool) -> Iterator[str]:
        found = self._found_pixels
        if found.range is not None:
            low, high = found.range
            if self.range is None:
                yield (
                    f"pictures have more than 8 bits: {low:g} becomes black and {high:g} white, by a sample of them; "
                    "data.range says otherwise"
                )
            elif not found.stretches_bytes and self._eight_bits:
                yield f"data.range [{low:g}, {high:g}] has no effect: pictures have 8 bits"
        if self.bands is not None:
            yield f"bands {self.bands} of pictures are shown, {self.channels} of them"
        if training and (left_out := self._left_out()):
            yield f"without effect on pictures of {self.channels} channels: {', '.join(left_out)}"

    @property
    def _eight_bits(self) -> bool:
        """Whether no picture has more than 8 bits, by a sample of them."""
        from switchnorm.data.files.pixel_range import find_range  # as `Dataset` explains

        return find_range(self._pictures, self.pixels.bands) is None

    def _check_pixels(self, interpolation: Interpolation | None) -> None:
        """Raise `InputError` for bands or a range that are none, and for what only pictures of three channels can."""
        bands, span = self.bands, self.range
        if bands is not None and not (bands and all(0 <= band <= _GREATEST_BAND for band in bands)):
            raise InputError(f"bands must be numbers of bands from 0 to {_GREATEST_BAND}, as in [0, 1, 2], got {bands}")
        if span is not None and not (len(span) == 2 and all(map(math.isfinite, span)) and span[0] < span[1]):
            raise InputError(f"range must be two numbers, the lower one first, as in [0, 4095], got {span}")
        if self.channels != 3 and interpolation not in (None, *_OF_TENSORS):
            raise InputError(
                f"interpolation {interpolation!r} is for pictures of 3 channels, and bands {bands} are "
                f"{self.channels}; the nearest is 'bicubic'"
            )
