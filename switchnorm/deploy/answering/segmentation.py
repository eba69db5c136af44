"""The class of every pixel: scales, mirrors and windows averaged, large pictures in parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from switchnorm.config.ranges import Range
from switchnorm.data.files.opening import sides
from switchnorm.data.preparation import Part, Preparation, ShortSides
from switchnorm.data.resizing import Array, Pixelled, extent
from switchnorm.data.segmentation.palette import distinct_colors
from switchnorm.deploy.answering.base import Answering, Runs, output
from switchnorm.deploy.answering.setting import Setting
from switchnorm.deploy.answers import Answer, Segmented
from switchnorm.deploy.arrays import labels_of, precise
from switchnorm.errors import InputError
from switchnorm.tasks.segmentation.inference import Inference, stitched

if TYPE_CHECKING:
    from switchnorm.deploy.answering.mask_files import MaskFiles


class Segmenting(Answering):
    """Answers with labels of pixels, as `switchnorm.tasks.segmentation.prediction` finds them.

    Settings are those of `Inference`, and `scales`, the short sides at which the network is run; None for its own.
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "flip": Setting(False, bool),
        "window": Setting(None, int, Range(32, most=2**15)),
        "overlap": Setting(0.33, float, Range(0, below=1)),
        "scales": Setting(None, list, Range(1, most=2**15)),
    }

    def __init__(self, runtime: Runs, preparation: Preparation, settings: Mapping[str, Any]) -> None:
        super().__init__(runtime, preparation, settings)
        self.inference = Inference(self.chosen["flip"], self.chosen["window"], self.chosen["overlap"])
        if self.chosen["scales"] is not None:
            self.preparation = _at(self.preparation, self.chosen["scales"])
        about = self.about
        codes = about.colors
        self.colors = (
            distinct_colors(len(about.classes)) if codes is None else np.array(list(map(_rgb, codes)), np.uint8)
        )
        self.numbers = about.numbers or (*range(len(about.classes)), 255)

    @property
    def writes(self) -> type[MaskFiles]:
        """As of `Answering`."""
        from switchnorm.deploy.answering.mask_files import MaskFiles  # as `Answering` explains

        return MaskFiles

    def files(self, files: Sequence[Path], out: Path) -> MaskFiles:
        """As of `Answering`."""
        return self.writes(files, out)

    def remarks(self, picture: Pixelled, answer: Answer) -> Iterator[str]:
        """As of `Answering`: parts, and sizes that are bounded."""
        rule = self.preparation.rule
        if not isinstance(rule, ShortSides):
            return
        tiling = rule.tiling(extent(picture))
        if tiling.unbounded is not None:
            wanted, shown = map(sides, (tiling.unbounded, max(tiling.shown)))
            yield f"is shown to the network at {shown} pixels and not at {wanted}"
        if len(tiling) > 1:
            yield f"is predicted in {len(tiling)} parts, which see {tiling.margin} pixels around"

    def answer(self, picture: Pixelled) -> Segmented:
        """As of `Answering`."""
        labels = np.empty(extent(picture), np.uint8)
        for part in self.preparation.parts(picture):
            labels[part.core] = self._labels(part)[part.within]
        return Segmented(labels, self.about.classes, self.colors, self.numbers)

    def _labels(self, part: Part) -> Array:
        logits: list[Array] = []
        for image in part.images:
            logits.append(self._logits(image))
            if self.inference.flip:
                logits.append(self._logits(image[..., ::-1])[..., ::-1])
        if logits[0].shape[0] != len(self.about.classes):
            named = len(self.about.classes)
            raise InputError(f"the network tells {logits[0].shape[0]} classes apart, and its description names {named}")
        return labels_of(logits, part.size)

    def _logits(self, image: Array) -> Array:
        """(C, h, w) -> (K, h', w') at the network's own resolution."""
        window = self.inference.window
        if window is not None and max(image.shape[1:]) > window:
            return self._slide(image, window)
        shown, inside = self.fitted(image)
        logits = output(self.run(shown[None]), "logits", 4)[0]
        if inside == shown.shape[1:]:
            return logits
        rows, columns = (
            max(1, round(side * found / whole))
            for side, found, whole in zip(inside, logits.shape[1:], shown.shape[1:], strict=True)
        )
        return logits[:, :rows, :columns]

    def _slide(self, image: Array, side: int) -> Array:
        def run(part: Array) -> Array:
            return output(self.run(part[None]), "logits", 4)[0]

        return stitched(run, image, side, self.inference.overlap, _zeros)


def _zeros(logits: Array, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape, precise(logits[:0]).dtype)


def _at(preparation: Preparation, sides: Sequence[int]) -> Preparation:
    """The same preparation at other short sides."""
    if not isinstance(preparation.rule, ShortSides):
        raise InputError("scales are for a network of pictures of any size; leave them out")
    return dataclasses.replace(preparation, rule=dataclasses.replace(preparation.rule, sides=tuple(sides)))


def _rgb(code: str) -> tuple[int, int, int]:
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)
