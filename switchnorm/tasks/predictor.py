"""What `switchnorm predict` asks a task for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl

from switchnorm.data import Dataset
from switchnorm.data.files.picture_file import DamagedError, read_picture
from switchnorm.data.files.remarks import Remarks, gathered
from switchnorm.data.picture import Picture
from switchnorm.errors import InputError


class Predictor(pl.Callback):
    """Predicts pictures: how they are read, and what is written of each as the network gives it.

    Args:
        dataset: of the run; its data is not read.
        files: the pictures.
        out: the folder to write to.

    Attributes:
        title: what is written, "masks and overlays".
        noun: a file that is written for one picture, "mask".
        failed: the pictures that could not be predicted so far, and why, in words that name them.
        remarks: what is to be said about others.
        noticed: what was unusual about the files of those that were read.
    """

    title: ClassVar[str]
    noun: ClassVar[str] = "file"

    def __init__(self, dataset: Dataset, files: Sequence[Path], out: Path) -> None:
        self.dataset = dataset
        self.files = files
        self.out = out
        self.failed: dict[Path, str] = {}
        self.remarks: list[str] = []
        self.noticed = Remarks("pictures", len(files))

    @staticmethod
    @abstractmethod
    def written(file: Path, out: Path) -> tuple[Path, ...]:
        """The files that are written for a picture alone."""

    @abstractmethod
    def inputs(self, index: int) -> Iterator[Any]:
        """What the task's `predict_step` takes, one after the other, of the picture in that place.

        Raises:
            DamagedError, InputError: a picture that cannot be read.
        """

    def read(self, index: int) -> Picture:
        """The picture in that place, as the dataset's `pixels` say.

        Raises:
            DamagedError, InputError: as `read_picture`.
        """
        with gathered() as remarks:
            picture = read_picture(str(self.files[index]), self.dataset.pixels)
        self.noticed.add(remarks)
        return picture

    @abstractmethod
    def take(self, output: Any) -> None:
        """Keep or write what `predict_step` has returned for the last input."""

    def finish(self) -> list[str]:
        """Write what is about all pictures; lines for the terminal."""
        return []

    def __iter__(self) -> Iterator[Any]:
        """The inputs of all pictures that can be read."""
        for index, file in enumerate(self.files):
            try:
                yield from self.inputs(index)
            except DamagedError as error:
                self.failed[file] = f"cannot read {error}"
            except InputError as error:
                self.failed[file] = str(error)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take what the network gave."""
        self.take(outputs)
