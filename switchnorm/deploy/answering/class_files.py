"""Classes of pictures as a table and a page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from switchnorm.data.resizing import Pixelled
from switchnorm.deploy.answering.files import AnswerFiles, seen
from switchnorm.deploy.answers import Answer, Classified
from switchnorm.files import write_file
from switchnorm.report.common.document import document
from switchnorm.report.common.elements import note, section
from switchnorm.report.common.photos import Photo, photo, photo_grid
from switchnorm.runs.tables import csv_text

TABLE, SHEET = "predictions.csv", "predictions.html"
#: How many classes are named of each picture.
TOP = 5
#: Pictures that the terminal names, and that the page shows.
_NAMED, _SHOWN = 10, 500


class ClassFiles(AnswerFiles):
    """Writes predictions.csv, a row per picture, and predictions.html, the pictures with their likeliest classes.

    Args:
        files, out: as `AnswerFiles`.
        classes: how many there are.
    """

    title: ClassVar[str] = "the likeliest classes"

    def __init__(self, files: Sequence[Path], out: Path, classes: int) -> None:
        super().__init__(files, out)
        self._classes = classes
        self._found: dict[int, list[tuple[str, float]]] = {}
        self._photos: dict[int, Photo] = {}

    def add(self, place: int, picture: Pixelled, answer: Answer) -> None:
        """Keep the classes of a picture, and the picture for the page."""
        assert isinstance(answer, Classified)
        if len(self._photos) < _SHOWN:
            self._photos[place] = photo(seen(picture), "", self.files[place].name)
        shares = answer.probabilities.tolist()
        self._found[place] = list(zip(answer.classes, shares, strict=True))[:TOP]

    def finish(self) -> list[str]:
        """Write table and page."""
        if not self._found:
            return []
        write_file(self.out / TABLE, self._table())
        write_file(self.out / SHEET, self._sheet())
        lines = []
        for place, found in itertools.islice(self._found.items(), _NAMED):
            lines += [str(self.files[place]), *(f"  {100 * share:5.1f} %  {name}" for name, share in found)]
        if len(self._found) > _NAMED:
            lines.append(f"and {len(self._found) - _NAMED} more pictures, which {self.out / TABLE} names")
        return lines

    def _table(self) -> str:
        """A row per picture: its path, and class and probability, in [0, 1], of each of the likeliest."""
        most = max(map(len, self._found.values()))
        head = [f"{what}_{rank}" for rank in range(1, most + 1) for what in ("class", "probability")]
        rows = (
            [str(self.files[place]), *(value for name, share in found for value in (name, round(share, 6)))]
            for place, found in self._found.items()
        )
        return csv_text([["picture", *head], *rows])

    def _sheet(self) -> str:
        shown = [
            each._replace(caption="\n".join([self.files[place].name, *self._lines(place)]))
            for place, each in self._photos.items()
        ]
        hidden = len(self._found) - len(shown)
        more = note(f"{hidden} more pictures are in {TABLE}.") if hidden else ""
        count = len(self._found)
        return document(
            "switchnorm predict",
            f"{count} {'picture' if count == 1 else 'pictures'} and their likeliest classes",
            f"Each with the {min(TOP, self._classes)} likeliest of {self._classes} classes.",
            [section("Pictures", photo_grid(shown), more)],
        )

    def _lines(self, place: int) -> list[str]:
        return [f"{100 * share:.1f} % {name}" for name, share in self._found[place]]
