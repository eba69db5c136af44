"""Detections as COCO's files have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from switchnorm.data.detection.objects import Rle
from switchnorm.tasks.detection.average_precision import Tally, xywh
from switchnorm.tasks.detection.found import Found


def result_rows(found: Found, picture: int, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The detections of a picture as COCO's results format has them, in their order; no number is rounded.

    Args:
        found: the detections.
        picture: the number of the picture.
        numbers: of the classes; label 1 is the first.
    """
    entries = zip(found.labels.tolist(), xywh(found.boxes), found.scores.tolist(), strict=True)
    for place, (label, box, score) in enumerate(entries):
        mask = {} if found.masks is None else {"segmentation": written_mask(found.masks[place])}
        yield {"image_id": picture, "category_id": numbers[label - 1], "bbox": box, "score": score, **mask}


def written_mask(mask: Rle) -> dict[str, Any]:
    """Run lengths as JSON has them: text in place of bytes."""
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def write_results(path: Path, tallies: Iterable[Tally], pictures: Callable[[int], int], numbers: Sequence[int]) -> None:
    """A list of all detections, a line for each.

    Args:
        path: of the file.
        tallies: the pictures.
        pictures: the number of a test picture of an index.
        numbers: as of `result_rows`.
    """
    rows = (row for tally in tallies for row in result_rows(tally.found, pictures(tally.index), numbers))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines("[", rows, "]"))


def lines(first: str, rows: Iterable[Any], last: str) -> Iterator[str]:
    """Rows of JSON between a first and a last line, a line for each."""
    yield first
    between = "\n"
    for row in rows:
        yield between + json.dumps(row)
        between = ",\n"
    yield f"\n{last}\n"
