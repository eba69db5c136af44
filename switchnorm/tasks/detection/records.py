"""What a detector's run shows class by class and picture by picture: written after each validation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from switchnorm.config.schema import Config
from switchnorm.data import Dataset
from switchnorm.data.detection import DetectionDataset
from switchnorm.data.segmentation.class_names import code_of
from switchnorm.files import write_file, write_files, writing
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.tables import EpochTable
from switchnorm.tasks.detection import files
from switchnorm.tasks.detection.average_precision import Tally
from switchnorm.tasks.detection.coco_json import write_results
from switchnorm.tasks.detection.drawn import Drawer
from switchnorm.tasks.detection.mistakes import mistakes
from switchnorm.tasks.detection.painting import WRITTEN, class_colors
from switchnorm.tasks.detection.task import Detection
from switchnorm.tasks.images import file_names, write_image

#: The longest side of an example's pictures, in pixels; larger ones are scaled down.
_LONGEST = 640


def records(run: RunFolder, config: Config, dataset: Dataset) -> list[pl.Callback]:
    """What writes the files of a detector's run, as `TaskSpec.records`."""
    assert isinstance(dataset, DetectionDataset)
    return [DetectionHistory(run, dataset, config.own.examples, config.own.shown)]


class DetectionHistory(pl.Callback):
    """Writes classes.csv, curves.csv, detections.json and the examples after each validation.

    Args:
        run: where to.
        dataset: what is evaluated.
        examples: how many test pictures to keep, evenly spread over the test set.
        shown: the score from which detections are drawn.
    """

    def __init__(self, run: RunFolder, dataset: DetectionDataset, examples: int, shown: float) -> None:
        self.run = run
        self.dataset = dataset
        self.examples = examples
        self.shown = shown
        self.classes: EpochTable | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the table."""
        if trainer.is_global_zero:
            start = self.run.config().train.start_epoch
            path = self.run.path / files.CLASSES
            self.classes = EpochTable(path, files.CLASS_COLUMNS, trainer.current_epoch, start)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the table, from which a resumed run goes on."""
        if self.classes is not None:
            self.classes.keep(checkpoint)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the epoch's validation found."""
        assert isinstance(pl_module, Detection)
        if self.classes is None or pl_module.scores is None:  # not the first process
            return
        epoch, scores, names = trainer.current_epoch + 1, pl_module.scores, self.dataset.classes
        self.classes.append([[epoch, *row] for row in files.class_rows(names, scores)])
        write_file(self.run.path / files.CURVES, files.curves_text(names, scores))
        write = functools.partial(
            write_results,
            tallies=scores.tallies,
            pictures=self.dataset.test_id,
            numbers=self.dataset.class_ids,
        )
        write_files({self.run.path / files.DETECTIONS: write})
        if watched := self._watched(scores.tallies):
            write_examples(self.run.path / files.EXAMPLES, self.dataset, watched, epoch, self.shown)

    def _watched(self, tallies: Sequence[Tally]) -> list[Tally]:
        """Some of the pictures; of those that are damaged there is nothing to show."""
        total = self.dataset.test_size
        count = min(self.examples, total)
        watched = {(2 * place + 1) * total // (2 * count) for place in range(count)}
        return [tally for tally in tallies if tally.index in watched]


def write_examples(folder: Path, dataset: DetectionDataset, tallies: Sequence[Tally], epoch: int, shown: float) -> None:
    """Write some test pictures with their objects and with detections, and what they are; see docs/design.md.

    Args:
        folder: where to.
        dataset: whose test pictures they are.
        tallies: the pictures, with what is there and what was found.
        epoch: after which they were looked at.
        shown: the score from which detections are drawn.
    """
    with writing(folder):
        folder.mkdir(exist_ok=True)
    described: list[dict[str, Any]] = []
    names, colors = file_names(dataset), class_colors(dataset.num_classes)
    drawer = Drawer(dataset.classes, colors, shown, _LONGEST)
    for tally in tallies:
        name, picture = names[tally.index], dataset.test_picture(tally.index)
        write_image(folder / f"{name}.{files.OBJECTS}", drawer.objects(picture, tally.truth), **WRITTEN)
        write_image(folder / f"{name}.{files.FOUND}", drawer.found(picture, tally.found), **WRITTEN)
        described.append({"name": name, **mistakes(tally.truth, tally.found, shown)._asdict()})
    codes = dict(zip(dataset.classes, map(code_of, colors.tolist()), strict=True))
    write_file(folder / files.EXAMPLES_LIST, files.examples_text(epoch, shown, codes, described))
