"""The likeliest classes of unlabelled pictures: as a table, on a page to look at, and on the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from switchnorm.data import Dataset
from switchnorm.data.picture import shown
from switchnorm.files import write_file
from switchnorm.report.common.document import document
from switchnorm.report.common.elements import note, section
from switchnorm.report.common.photos import Photo, photo, photo_grid
from switchnorm.runs.tables import csv_text
from switchnorm.tasks.predictor import Predictor

TABLE, SHEET = "predictions.csv", "predictions.html"
#: How many classes are named of each picture.
TOP = 5
#: Pictures that the terminal names, and that the page shows.
_NAMED, _SHOWN = 10, 500


class Likely(NamedTuple):
    """The likeliest classes of a picture, the likeliest first.

    Args:
        index: which picture it is.
        classes: their labels, (k,) int64.
        shares: their probabilities, (k,) float32.
    """

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    classes: Tensor
    shares: Tensor


class ClassPredictor(Predictor):
    """Writes predictions.csv, a row per picture, and predictions.html, the pictures with their likeliest classes."""

    title: ClassVar[str] = "the likeliest classes"

    def __init__(self, dataset: Dataset, files: Sequence[Path], out: Path) -> None:
        super().__init__(dataset, files, out)
        self._found: dict[int, list[tuple[str, float]]] = {}
        self._photos: dict[int, Photo] = {}

    @staticmethod
    def written(file: Path, out: Path) -> tuple[Path, ...]:
        """Nothing is written for a picture alone."""
        return ()

    def inputs(self, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The picture as evaluation shows it to the network, (1, C, H, W) float32, and its place, (1,)."""
        picture = self.read(index)
        if len(self._photos) < _SHOWN:
            self._photos[index] = photo(shown(picture), "", self.files[index].name)
        yield self.dataset.shown(picture)[None], torch.tensor([index])

    def take(self, output: Sequence[Likely]) -> None:
        """Keep the classes of a picture."""
        names = self.dataset.classes
        for each in output:
            shares = each.shares.tolist()
            found = [(names[label], share) for label, share in zip(each.classes.tolist(), shares, strict=True)]
            self._found[each.index] = found

    def finish(self) -> list[str]:
        """Write table and page."""
        if not self._found:
            return []
        write_file(self.out / TABLE, self._table())
        write_file(self.out / SHEET, self._sheet())
        lines = []
        for index, found in itertools.islice(self._found.items(), _NAMED):
            lines += [str(self.files[index]), *(f"  {100 * share:5.1f} %  {name}" for name, share in found)]
        if len(self._found) > _NAMED:
            lines.append(f"and {len(self._found) - _NAMED} more pictures, which {self.out / TABLE} names")
        return lines

    def _table(self) -> str:
        """A row per picture: its path, and class and probability, in [0, 1], of each of the likeliest."""
        most = max(map(len, self._found.values()))
        head = [f"{what}_{rank}" for rank in range(1, most + 1) for what in ("class", "probability")]
        rows = (
            [str(self.files[index]), *(value for name, share in found for value in (name, round(share, 6)))]
            for index, found in self._found.items()
        )
        return csv_text([["picture", *head], *rows])

    def _sheet(self) -> str:
        shown = [
            each._replace(caption="\n".join([self.files[index].name, *self._lines(index)]))
            for index, each in self._photos.items()
            if index in self._found
        ]
        hidden = len(self._found) - len(shown)
        more = note(f"{hidden} more pictures are in {TABLE}.") if hidden else ""
        count = len(self._found)
        return document(
            "switchnorm predict",
            f"{count} {'picture' if count == 1 else 'pictures'} and their likeliest classes",
            f"Each with the {min(TOP, len(self.dataset.classes))} likeliest of {len(self.dataset.classes)} classes.",
            [section("Pictures", photo_grid(shown), more)],
        )

    def _lines(self, index: int) -> list[str]:
        return [f"{100 * share:.1f} % {name}" for name, share in self._found[index]]
