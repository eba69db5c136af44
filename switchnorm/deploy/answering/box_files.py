"""What a detector finds on pictures: drawn on them, as COCO's JSON, and as a table."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from switchnorm.data.resizing import Pixelled
from switchnorm.deploy.answering.files import AnswerFiles, seen
from switchnorm.deploy.answers import Answer, Detected
from switchnorm.files import write_files, writing
from switchnorm.runs.tables import csv_text
from switchnorm.tasks.detection.average_precision import xywh
from switchnorm.tasks.detection.coco_json import written_mask
from switchnorm.tasks.detection.drawn import Drawer
from switchnorm.tasks.detection.found import Found, encoded
from switchnorm.tasks.detection.painting import WRITTEN, class_colors
from switchnorm.tasks.images import write_image

JSON, TABLE = "detections.json", "detections.csv"
_COLUMNS = ("picture", "class", "score", "x1", "y1", "x2", "y2")
#: Pictures that the terminal names.
_NAMED = 10


class BoxFiles(AnswerFiles):
    """Writes NAME_detections.jpg for each picture NAME.*, and detections.json and detections.csv of all.

    The JSON file is a data set of COCO's whose annotations have scores. Rows are kept on the disk until all is found,
    so that memory does not grow with the number of pictures.

    Args:
        files, out: as `AnswerFiles`.
        names: of the classes.
        shown: the score from which detections are drawn.
    """

    title: ClassVar[str] = f"pictures with detections, {JSON} and {TABLE}"
    noun: ClassVar[str] = "picture"

    def __init__(self, files: Sequence[Path], out: Path, names: Sequence[str], shown: float) -> None:
        super().__init__(files, out)
        self._names = names
        self._class_ids = range(1, len(self._names) + 1)
        self._drawer = Drawer(self._names, class_colors(len(self._names)), shown)
        self._numbers = itertools.count(1)
        self._lines: list[str] = []
        self._done = 0
        with writing(out):
            # Images and annotations of the JSON file, and rows of the table; gone with the process.
            self._spools = tuple(_spool(out) for _ in range(3))

    @staticmethod
    def written(file: Path, out: Path) -> tuple[Path, ...]:
        """Where the picture with its detections goes."""
        return (out / f"{file.stem}_detections.jpg",)

    def add(self, place: int, picture: Pixelled, answer: Answer) -> None:
        """Draw and keep what was found on a picture."""
        assert isinstance(answer, Detected)
        masks = None if answer.masks is None else tuple(map(encoded, answer.masks))
        found = Found(answer.boxes, answer.labels, answer.scores, masks)
        file, image = self.files[place], seen(picture)
        (path,) = self.written(file, self.out)
        write_image(path, self._drawer.found(image, found), **WRITTEN)
        with writing(self.out):
            self._keep(file, place, (image.height, image.width), found)

    def finish(self) -> list[str]:
        """Write the JSON file and the table."""
        files = {self.out / JSON: self._write_json, self.out / TABLE: self._write_table}
        if self._done:
            write_files(files)
        for spool in self._spools:
            spool.close()
        more = self._done - len(self._lines)
        return [*self._lines, *([f"and {more} more pictures, which {self.out / TABLE} names"] if more else [])]

    def _keep(self, file: Path, index: int, size: tuple[int, int], found: Found) -> None:
        images, annotations, rows = self._spools
        image = {"id": index + 1, "file_name": str(file), "height": size[0], "width": size[1]}
        images.write((",\n" if self._done else "") + json.dumps(image))
        self._done += 1
        for annotation in self._annotations(index + 1, found):
            annotations.write((",\n" if annotation["id"] > 1 else "") + json.dumps(annotation))
        names = [self._names[label - 1] for label in found.labels.tolist()]
        boxes = found.boxes.astype(np.float64).round(2).tolist()
        scores = found.scores.astype(np.float64).round(6).tolist()
        rows.write(csv_text([(str(file), *row, *box) for *row, box in zip(names, scores, boxes, strict=True)]))
        if len(self._lines) < _NAMED:
            drawn = Counter(name for name, score in zip(names, scores, strict=True) if score >= self._drawer.shown)
            said = ", ".join(f"{count} {name}" for name, count in drawn.most_common()) or "nothing"
            self._lines.append(f"{file}: {said}")

    def _annotations(self, image: int, found: Found) -> Iterator[dict[str, Any]]:
        for place, (label, box, score) in enumerate(
            zip(found.labels.tolist(), xywh(found.boxes), found.scores.tolist(), strict=True)
        ):
            known = {"id": next(self._numbers), "image_id": image, "category_id": self._class_ids[label - 1]}
            mask = None if found.masks is None else found.masks[place]
            shape = {} if mask is None else {"segmentation": written_mask(mask)}
            area = box[2] * box[3] if mask is None else float(coco_masks.area(mask))
            yield {**known, "bbox": box, "score": score, "area": area, "iscrowd": 0, **shape}

    def _write_json(self, path: Path) -> None:
        images, annotations, _ = self._spools
        categories = [{"id": number, "name": name} for number, name in zip(self._class_ids, self._names, strict=True)]
        with path.open("w", encoding="utf-8") as file:
            file.write(f'{{"categories": {json.dumps(categories)},\n"images": [\n')
            _copy(images, file)
            file.write('\n],\n"annotations": [\n')
            _copy(annotations, file)
            file.write("\n]}\n")

    def _write_table(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(csv_text([_COLUMNS]))
            _copy(self._spools[2], file)


def _spool(folder: Path) -> IO[str]:
    """A file without a name, which `BoxFiles.finish` closes; it takes any text, as `switchnorm.files.utf8` does."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="", dir=folder)


def _copy(spool: IO[str], file: IO[str]) -> None:
    spool.seek(0)
    shutil.copyfileobj(spool, file)
