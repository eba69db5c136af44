"""Masks and overlays of unlabelled pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.data import Dataset
from switchnorm.data.files.opening import sides
from switchnorm.data.picture import Picture, shown, size_of
from switchnorm.data.preparation import Tiling
from switchnorm.data.segmentation import Scene, SegmentationDataset
from switchnorm.data.segmentation.palette import overlay, written_mask
from switchnorm.data.segmentation.tiles import Tile
from switchnorm.tasks.images import write_image
from switchnorm.tasks.predictor import Predictor

#: A scene's index, and its labels, (H, W) uint8 on the CPU, or why there are none.
Labelled = tuple[int, Tensor | str]


@dataclass
class _Begun:
    """A picture of which some tiles are predicted.

    Args:
        file: where it comes from.
        picture: as it was read.
        labels: (H, W) uint8.
        missing: how many tiles are not predicted yet.
    """

    file: Path
    picture: Picture
    labels: Tensor
    missing: int


class MaskPredictor(Predictor):
    """Writes NAME.png and NAME_overlay.jpg for each picture NAME.*.

    The dataset says which sizes the network is shown, and has the classes with their colours and numbers.
    """

    title: ClassVar[str] = "masks and overlays"
    noun: ClassVar[str] = "mask"

    def __init__(self, dataset: Dataset, files: Sequence[Path], out: Path) -> None:
        super().__init__(dataset, files, out)
        assert isinstance(dataset, SegmentationDataset)
        self._numbering = dataset.numbering  # which may be refused, before anything is predicted
        self._tiles: dict[int, tuple[_Begun, Tile]] = {}
        self._numbers = itertools.count()

    @staticmethod
    def written(file: Path, out: Path) -> tuple[Path, ...]:
        """Where the mask of a picture goes, and the overlay."""
        return out / f"{file.stem}.png", out / f"{file.stem}_overlay.jpg"

    def inputs(self, index: int) -> Iterator[list[Scene]]:
        """The tiles of a picture, one by one."""
        assert isinstance(self.dataset, SegmentationDataset)
        file, picture = self.files[index], self.read(index)
        tiling = self.dataset.tiling(size_of(picture))
        self._remark(file, tiling)
        begun = _Begun(file, picture, torch.empty(tiling.size, dtype=torch.uint8), len(tiling))
        for number, tile in zip(self._numbers, self.dataset.tiles(picture), strict=False):
            self._tiles[number] = begun, tile._replace(scene=tile.scene._replace(pictures=()))
            yield [tile.scene._replace(index=number)]

    def take(self, output: Sequence[Labelled]) -> None:
        """Keep the labels of tiles; write what is complete."""
        for number, labels in output:
            begun, tile = self._tiles.pop(number)
            if isinstance(labels, str):
                self.failed[begun.file] = f"{begun.file}: {labels}"
                continue
            begun.labels[tile.core] = labels[tile.within]
            begun.missing -= 1
            if not begun.missing:
                self._write(begun)

    def _write(self, done: _Begun) -> None:
        assert isinstance(self.dataset, SegmentationDataset)
        mask, beside = self.written(done.file, self.out)
        write_image(beside, overlay(shown(done.picture), done.labels, self.dataset.palette), quality=90)
        write_image(mask, written_mask(done.labels, self._numbering, self.dataset.palette))

    def _remark(self, file: Path, tiling: Tiling) -> None:
        if tiling.unbounded is not None:
            wanted, shown = map(sides, (tiling.unbounded, max(tiling.shown)))
            self.remarks.append(f"{file} is shown to the network at {shown} pixels and not at {wanted}")
        if len(tiling) > 1:
            self.remarks.append(f"{file} is predicted in {len(tiling)} parts, which see {tiling.margin} pixels around")
