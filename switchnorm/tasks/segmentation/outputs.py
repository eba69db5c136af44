"""What `switchnorm eval` writes about segmentation: the confusion matrix, and pictures beside truth and prediction."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from torch import Tensor

from switchnorm.data import Dataset
from switchnorm.data.segmentation import Scene, SegmentationDataset
from switchnorm.data.segmentation.palette import mask_image
from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.tasks.images import file_names, write_image
from switchnorm.tasks.output import Output, of_all_processes
from switchnorm.tasks.replaced_folder import ReplacedFolder
from switchnorm.tasks.segmentation.confusion import Scores, confusion
from switchnorm.tasks.segmentation.files import confusion_text
from switchnorm.tasks.segmentation.task import Segmentation

#: Of the table of compared pictures: a row for each, the worst first.
COLUMNS = ("picture", "mean_iou", "accuracy")


class ConfusionFile(Output):
    """Which class was taken for which: a CSV of pixels by true and predicted class.

    Args:
        path: the file; another such table is replaced.
        dataset: what is evaluated.

    Raises:
        InputError: a file that holds something else.
    """

    def __init__(self, path: Path, dataset: Dataset) -> None:
        if path.exists() and not path.read_bytes().startswith(b"truth,"):
            raise InputError(f"--confusion {str(path)!r} holds something else already; choose another file")
        self.path = path
        self.classes = dataset.classes
        self.scores: Scores | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the scores."""
        assert isinstance(pl_module, Segmentation)
        self.scores = pl_module.scores

    def write(self) -> str:
        """As `Output`."""
        assert self.scores is not None
        write_file(self.path, confusion_text(self.classes, self.scores))
        return f"{self.path}: pixels by true and predicted class"


class Compared(NamedTuple):
    """A test picture whose prediction was held against its truth."""

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    mean_iou: float
    """Over the classes in truth or prediction; NaN where no pixel counts."""
    accuracy: float

    @property
    def goodness(self) -> float:
        """By which pictures are worst: of a picture of void alone nothing is wrong."""
        return math.inf if math.isnan(self.mean_iou) else self.mean_iou


class SideBySide(Output):
    """NAME.png for test pictures, the picture, its truth and the prediction side by side; and pictures.csv.

    The masks have the dataset's colours, black where nothing counts. A folder of an earlier evaluation is replaced,
    when all is written beside it.

    Args:
        path: the folder.
        dataset: what is evaluated.
        worst: how many pictures to write, those of the lowest mean IoU; None for all, each as soon as it is predicted.

    Raises:
        InputError: a folder that holds something else.
    """

    def __init__(self, path: Path, dataset: Dataset, worst: int | None = None) -> None:
        assert isinstance(dataset, SegmentationDataset)
        self.path = path
        self.dataset = dataset
        self.worst = worst
        self.names = file_names(dataset)
        self.compared: list[Compared] = []
        # The worst so far: a heap with the best of them first, (-goodness, -index, labels).
        self._kept: list[tuple[float, int, Tensor]] = []
        self._folder = ReplacedFolder(path, COLUMNS, "--pictures")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make room beside."""
        if trainer.is_global_zero:
            self._folder.begin()
        trainer.strategy.barrier()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave nothing behind."""
        self._folder.abandon()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Sequence[Scene],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compare the predictions of a batch with their truth; write, or keep the worst."""
        targets = {scene.index: scene.target for scene in batch}
        for index, labels in outputs["labels"].items():
            target = targets[index]
            assert target is not None
            scores = Scores(confusion(labels, target, self.dataset.num_classes).cpu())
            found = Compared(index, scores.mean_iou_present, scores.pixel_accuracy)
            self.compared.append(found)
            if self.worst is None:
                self._write(index, labels.cpu())
            else:
                keep = heapq.heappush if len(self._kept) < self.worst else heapq.heappushpop
                keep(self._kept, (-found.goodness, -index, labels.cpu()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Decide which pictures are the worst of all processes, and write them."""
        everything = (found for each in of_all_processes(trainer, self.compared) for found in each)
        self.compared = sorted(everything, key=lambda found: (found.goodness, found.index))
        if self.worst is not None:
            self.compared = self.compared[: self.worst]
            wanted = {found.index for found in self.compared}
            for _, place, labels in self._kept:
                if -place in wanted:
                    self._write(-place, labels)
        trainer.strategy.barrier()

    def write(self) -> str:
        """As `Output`."""
        rows = [(self.names[found.index], *map(_rounded, found[1:])) for found in self.compared]
        self._folder.finish(rows)
        what = "all" if self.worst is None else "the worst"
        first = self.compared[0]
        lowest = "-" if math.isnan(first.mean_iou) else f"{100 * first.mean_iou:.2f} %"
        count = len(rows)
        return (
            f"{self.path}: picture, truth and prediction of {what} {count} test picture{'' if count == 1 else 's'}; "
            f"the lowest mean IoU is {lowest}, of {self.names[first.index]}"
        )

    def _write(self, index: int, labels: Tensor) -> None:
        picture = self.dataset.test_picture(index).convert("RGB")
        masks = (mask_image(each, self.dataset.palette) for each in (self.dataset.test_target(index), labels))
        parts = [np.asarray(each.convert("RGB")) for each in (picture, *masks)]
        write_image(self._folder.picture(self.names[index]), Image.fromarray(np.concatenate(parts, 1)))


def _rounded(value: float) -> float | str:
    return "" if math.isnan(value) else round(value, 6)
