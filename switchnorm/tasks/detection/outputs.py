"""What `switchnorm eval` writes about a detector: all detections, and pictures with objects and detections."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
from PIL import Image

from switchnorm.data import Dataset
from switchnorm.data.detection import DetectionDataset
from switchnorm.errors import InputError
from switchnorm.files import write_files
from switchnorm.tasks.detection.average_precision import Scores, Tally
from switchnorm.tasks.detection.coco_json import write_results
from switchnorm.tasks.detection.drawn import Drawer
from switchnorm.tasks.detection.mistakes import Mistakes, mistakes
from switchnorm.tasks.detection.painting import WRITTEN, class_colors
from switchnorm.tasks.detection.task import Detection
from switchnorm.tasks.images import file_names, write_image
from switchnorm.tasks.output import Output
from switchnorm.tasks.replaced_folder import ReplacedFolder

#: Of the table of compared pictures: a row for each, the worst first.
COLUMNS = ("picture", "f1", "right", "missed", "wrong")


class DetectionsFile(Output):
    """All detections as COCO's results format has them, in COCO's own numbers where the data has such.

    Args:
        path: the file; another such list is replaced.
        dataset: what is evaluated.

    Raises:
        InputError: a file that holds something else.
    """

    def __init__(self, path: Path, dataset: Dataset) -> None:
        assert isinstance(dataset, DetectionDataset)
        if path.exists() and not _is_results(path):
            raise InputError(f"--detections {str(path)!r} holds something else already; choose another file")
        self.path = path
        self.dataset = dataset
        self.scores: Scores | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what was found."""
        assert isinstance(pl_module, Detection)
        self.scores = pl_module.scores

    def write(self) -> str:
        """As `Output`."""
        assert self.scores is not None
        tallies = self.scores.tallies
        write = functools.partial(
            write_results, tallies=tallies, pictures=self.dataset.test_id, numbers=self.dataset.class_ids
        )
        write_files({self.path: write})
        count = sum(len(tally.found.boxes) for tally in tallies)
        return f"{self.path}: {count} detections on {len(tallies)} test pictures, as COCO's results"


class _Compared(NamedTuple):
    """A test picture whose detections were held against its objects."""

    tally: Tally
    mistakes: Mistakes


class SideBySide(Output):
    """NAME.jpg for test pictures, with their objects and with the detections side by side; and pictures.csv.

    A folder of an earlier evaluation is replaced, when all is written beside it.

    Args:
        path: the folder.
        dataset: what is evaluated.
        worst: how many pictures to write, those of the lowest F1; None for all.

    Raises:
        InputError: a folder that holds something else.
    """

    def __init__(self, path: Path, dataset: Dataset, worst: int | None = None) -> None:
        assert isinstance(dataset, DetectionDataset)
        self.path = path
        self.dataset = dataset
        self.worst = worst
        self.names = file_names(dataset)
        self.shown = 0.0
        self.compared: list[_Compared] = []
        self._folder = ReplacedFolder(path, COLUMNS, "--pictures", ".jpg")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Decide which pictures are the worst."""
        assert isinstance(pl_module, Detection)
        assert pl_module.scores is not None
        self.shown = pl_module.shown
        compared = [
            _Compared(tally, mistakes(tally.truth, tally.found, self.shown)) for tally in pl_module.scores.tallies
        ]
        self.compared = sorted(compared, key=lambda each: (each.mistakes.f1, each.tally.index))[: self.worst]

    def write(self) -> str:
        """As `Output`."""
        drawer = Drawer(self.dataset.classes, class_colors(self.dataset.num_classes), self.shown)
        self._folder.begin()
        try:
            for each in self.compared:
                self._write(each.tally, drawer)
            self._folder.finish(
                [(self.names[each.tally.index], round(each.mistakes.f1, 6), *each.mistakes) for each in self.compared]
            )
        except BaseException:
            self._folder.abandon()
            raise
        what = "all" if self.worst is None else "the worst"
        first, count = self.compared[0], len(self.compared)
        return (
            f"{self.path}: objects and detections of {what} {count} test picture{'' if count == 1 else 's'}; with a "
            f"score of {self.shown:g} and more, {self.names[first.tally.index]} has {first.mistakes.missed} objects "
            f"missed, {first.mistakes.wrong} detections wrong"
        )

    def _write(self, tally: Tally, drawer: Drawer) -> None:
        picture = self.dataset.test_picture(tally.index)
        parts = drawer.objects(picture, tally.truth), drawer.found(picture, tally.found)
        both = Image.fromarray(np.concatenate([np.asarray(part) for part in parts], 1))
        write_image(self._folder.picture(self.names[tally.index]), both, **WRITTEN)


def _is_results(path: Path) -> bool:
    """Whether a file begins as a list of results does."""
    with path.open("rb") as file:
        start = b"".join(file.read(200).split())
    return start == b"[]" or start.startswith(b'[{"image_id":')
