"""Masks and overlays of unlabelled pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
from torch import Tensor

from switchnorm.data import Dataset
from switchnorm.data.files.picture_file import DamagedError, Pixels, read_picture
from switchnorm.data.picture import Picture, shown
from switchnorm.data.segmentation import Scene, SegmentationDataset
from switchnorm.data.segmentation.palette import overlay, written_mask
from switchnorm.errors import InputError
from switchnorm.tasks.segmentation.images import write_image


class MaskPredictor:
    """Writes NAME.png and NAME_overlay.jpg for each picture NAME.*; see `switchnorm.training.predict.Predictor`.

    Args:
        dataset: of the run: which sizes the network is shown, and the classes with their colours and numbers.
        files: the pictures.
        out: the folder to write to.
    """

    noun: ClassVar[str] = "mask"

    def __init__(self, dataset: Dataset, files: Sequence[Path], out: Path) -> None:
        assert isinstance(dataset, SegmentationDataset)
        self.batches = _Scenes(files, dataset)
        self.writer = _MaskWriter(files, dataset, out)

    @staticmethod
    def written(file: Path, out: Path) -> tuple[Path, Path]:
        """Where the mask of a picture goes, and the overlay."""
        return out / f"{file.stem}.png", out / f"{file.stem}_overlay.jpg"


def _read(file: Path, pixels: Pixels) -> Picture:
    try:
        return read_picture(str(file), pixels)
    except DamagedError as error:
        raise InputError(f"cannot read {error}") from error


class _Scenes:
    """The pictures one by one, as the network sees them."""

    def __init__(self, files: Sequence[Path], dataset: SegmentationDataset) -> None:
        self.files = files
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[list[Scene]]:
        for index, file in enumerate(self.files):
            yield [self.dataset.scene(_read(file, self.dataset.pixels))._replace(index=index)]


class _MaskWriter(pl.Callback):
    """Writes each prediction as it comes."""

    def __init__(self, files: Sequence[Path], dataset: SegmentationDataset, out: Path) -> None:
        self.files = files
        self.dataset = dataset
        self.out = out

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: list[tuple[int, Tensor]],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the masks and overlays of a batch."""
        for index, labels in outputs:
            file = self.files[index]
            mask, beside = MaskPredictor.written(file, self.out)
            write_image(
                beside, overlay(shown(_read(file, self.dataset.pixels)), labels, self.dataset.palette), quality=90
            )
            write_image(mask, written_mask(labels, self.dataset.numbering, self.dataset.palette))
