"""What a segmentation run shows class by class and picture by picture: written after each validation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from switchnorm.config.schema import Config
from switchnorm.data import Dataset
from switchnorm.data.segmentation import SegmentationDataset
from switchnorm.data.segmentation.class_names import code_of
from switchnorm.data.segmentation.palette import mask_image
from switchnorm.files import write_file, writing
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.tables import EpochTable
from switchnorm.tasks.images import file_names, write_image
from switchnorm.tasks.output import of_all_processes
from switchnorm.tasks.segmentation import files
from switchnorm.tasks.segmentation.confusion import Scores, confusion
from switchnorm.tasks.segmentation.task import Segmentation

#: The longest side of an example's pictures, in pixels; larger ones are scaled down.
_LONGEST = 640


def records(run: RunFolder, config: Config, dataset: Dataset) -> list[pl.Callback]:
    """What writes the files of a segmentation run, as `TaskSpec.records`."""
    assert isinstance(dataset, SegmentationDataset)
    return [ClassHistory(run, dataset, config.own.examples)]


class ClassHistory(pl.Callback):
    """Writes classes.csv, confusion.csv and the examples after each validation.

    Args:
        run: where to.
        dataset: what is evaluated.
        examples: how many test pictures to keep, evenly spread over the test set.
    """

    def __init__(self, run: RunFolder, dataset: SegmentationDataset, examples: int) -> None:
        self.run = run
        self.dataset = dataset
        self.examples = examples
        #: Indices of the pictures to keep, and the predictions of this process for them.
        self.watched: frozenset[int] = frozenset()
        self.seen: dict[int, Tensor] = {}
        self.classes: EpochTable | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the table, and decide which predictions to keep."""
        total = self.dataset.test_size
        count = min(self.examples, total)
        self.watched = frozenset((2 * place + 1) * total // (2 * count) for place in range(count))
        if trainer.is_global_zero:
            start = self.run.config().train.start_epoch
            files.renumber_examples(self.run.path, start)
            path = self.run.path / files.CLASSES
            self.classes = EpochTable(path, files.CLASS_COLUMNS, trainer.current_epoch, start)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the table, from which a resumed run goes on."""
        if self.classes is not None:
            self.classes.keep(checkpoint)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the predictions that were kept."""
        self.seen = {}

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions that are watched."""
        self.seen |= {index: labels.cpu() for index, labels in outputs["labels"].items() if index in self.watched}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the epoch's validation found."""
        assert isinstance(pl_module, Segmentation)
        seen = {index: labels for each in of_all_processes(trainer, self.seen) for index, labels in each.items()}
        if self.classes is None or pl_module.scores is None:  # not the first process
            return
        epoch, scores, names = trainer.current_epoch + 1, pl_module.scores, self.dataset.classes
        self.classes.append([[epoch, *row] for row in files.class_rows(names, scores)])
        write_file(self.run.path / files.CONFUSION, files.confusion_text(names, scores))
        if seen:
            write_examples(self.run.path / files.EXAMPLES, self.dataset, seen, epoch)


def write_examples(folder: Path, dataset: SegmentationDataset, predictions: Mapping[int, Tensor], epoch: int) -> None:
    """Write picture, truth and prediction of some test pictures, and what they are; see docs/design.md.

    Args:
        folder: where to.
        dataset: whose test pictures they are.
        predictions: by index of the test picture, (H, W) uint8.
        epoch: after which the predictions were made.
    """
    with writing(folder):
        folder.mkdir(exist_ok=True)
    described: list[dict[str, Any]] = []
    names = file_names(dataset)
    for index, prediction in sorted(predictions.items()):
        name, picture, truth = names[index], dataset.test_picture(index), dataset.test_target(index)
        share = min(1.0, _LONGEST / max(picture.size))
        size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
        write_image(folder / f"{name}.jpg", picture.resize(size), quality=85)
        for kind, labels in (("truth", truth), ("prediction", prediction)):
            mask = mask_image(labels, dataset.palette)
            write_image(folder / f"{name}.{kind}.png", mask.resize(size, resample=0))  # 0: the nearest pixel
        scores = Scores(confusion(prediction, truth, len(dataset.classes)))
        numbers = {"accuracy": scores.pixel_accuracy, "mean_iou": scores.mean_iou_present}
        # JSON has no NaN, which a picture of void alone gets.
        described.append({"name": name, **{key: None if math.isnan(v) else v for key, v in numbers.items()}})
    colors = map(code_of, dataset.palette.tolist())
    classes = [{"name": name, "color": color} for name, color in zip(dataset.classes, colors, strict=True)]
    content = {"epoch": epoch, "classes": classes, "pictures": described}
    write_file(folder / files.EXAMPLES_LIST, json.dumps(content, indent=1) + "\n")
