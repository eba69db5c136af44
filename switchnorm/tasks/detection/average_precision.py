"""Average precision as COCO's evaluation defines it (Lin et al., "Microsoft COCO: Common Objects in Context", 2014).

The matching of detections with objects is faster-coco-eval's; the tables that it gives are those of pycocotools.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as coco_masks
from faster_coco_eval.core.coco import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster

from switchnorm.data.detection.objects import Rle
from switchnorm.errors import InputError
from switchnorm.tasks.detection.columns import KINDS, STATS, column
from switchnorm.tasks.detection.found import Found, Truth

Array = np.ndarray[Any, Any]

#: What is counted as right: the overlap from which a detection is one of an object.
OVERLAPS = np.linspace(0.5, 0.95, 10)
#: Recalls at which precision is measured.
RECALLS = np.linspace(0, 1, 101)
#: How many detections of a picture and class count at most; the last for all but the first two average recalls.
MOST = (1, 10, 100)
#: Why there is no score.
NOTHING_COUNTS = "no object of the test pictures counts; expected one at least that is no crowd"
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # places of the ranges of areas
_ABSENT = -1  # what the tables hold where there is no object


class Tally(NamedTuple):
    """A picture with all that is known of it."""

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    size: tuple[int, int]
    truth: Truth
    found: Found


@dataclass(frozen=True)
class AveragePrecision:
    """The tables of COCO's evaluation: of boxes, or of masks. -1 is where there is no object.

    Attributes:
        precision: (10, 101, C, 4, 3): at each overlap and recall, of each class, range of areas (all, small, medium,
            large) and largest number of detections; the highest precision at that recall or a greater one.
        recall: (10, C, 4, 3).
        scores: (10, 101, C, 4, 3): of the detection at which that recall is reached; 0 where it is not.
    """

    precision: Array
    recall: Array
    scores: Array

    @property
    def stats(self) -> Array:
        """The twelve numbers in COCO's order (`columns.STATS`), (12,); NaN where there is no object."""
        at_50, at_75 = 0, 5
        precision, recall = self.precision, self.recall
        return np.array(
            [
                *(_mean(precision[part, ..., _ALL, -1]) for part in (slice(None), at_50, at_75)),
                *(_mean(precision[..., area, -1]) for area in (_SMALL, _MEDIUM, _LARGE)),
                *(_mean(recall[..., _ALL, most]) for most in range(len(MOST))),
                *(_mean(recall[..., area, -1]) for area in (_SMALL, _MEDIUM, _LARGE)),
            ]
        )

    def of_classes(self, overlap: float | None = None) -> Array:
        """Average precision of each class, (C,); NaN of those without an object.

        Args:
            overlap: at which; None for the mean over all.
        """
        found = self.precision[..., _ALL, -1]
        return _means(found if overlap is None else found[_place(overlap)][None])

    @property
    def recall_of_classes(self) -> Array:
        """Average recall of each class, (C,); NaN of those without an object."""
        return _means(self.recall[:, None, :, _ALL, -1])

    def curves(self, overlap: float | None = None) -> Array:
        """Precision at `RECALLS` of each class, (C, 101), at an overlap or in the mean; NaN without an object."""
        found = self.precision[..., _ALL, -1]
        curves = (found.mean(0) if overlap is None else found[_place(overlap)]).T
        return np.where(curves == _ABSENT, np.nan, curves)

    def thresholds(self, overlap: float) -> Array:
        """The score at which each class reaches `RECALLS`, (C, 101); NaN where it does not."""
        scores = self.scores[_place(overlap), ..., _ALL, -1].T
        reached = self.precision[_place(overlap), ..., _ALL, -1].T > 0
        return np.where(reached, scores, np.nan)


@dataclass(frozen=True)
class Scores:
    """How well a detector does on a test set.

    Attributes:
        boxes: of the boxes.
        masks: of the masks; None where the network or the data has none.
        objects: (C,) int64, that count, of each class.
        detections: (C,) int64.
        tallies: the pictures of all processes, by index; the first process alone has them.
    """

    boxes: AveragePrecision
    masks: AveragePrecision | None
    objects: Array
    detections: Array
    tallies: tuple[Tally, ...]

    @cached_property
    def kinds(self) -> dict[str, AveragePrecision]:
        """What was compared, as `columns.KINDS` has it: "" for boxes, "mask_"."""
        kinds = [kind for kind, _ in KINDS]
        return {kind: found for kind, found in zip(kinds, (self.boxes, self.masks), strict=True) if found is not None}

    @property
    def dropped(self) -> int:
        """How many detections were left out, since a number of theirs is not finite; the first process knows."""
        return sum(tally.found.dropped for tally in self.tallies)

    @property
    def values(self) -> dict[str, float]:
        """By column of metrics.csv, those that there are: of no large object there is no average precision."""
        named = {
            column(kind, stat): float(value)
            for kind, found in self.kinds.items()
            for (stat, _), value in zip(STATS, found.stats, strict=True)
        }
        return {name: value for name, value in named.items() if not np.isnan(value)}


def score(tallies: Sequence[Tally], classes: int) -> Scores:
    """Compare what was found on pictures with what is there.

    Detections of one class and the same score count in the order of pictures, and of their places on each.

    Args:
        tallies: the pictures; their order changes nothing.
        classes: C.

    Raises:
        InputError: no object counts.
    """
    tallies = sorted(tallies, key=lambda tally: tally.index)
    counted = [tally.truth.labels[~tally.truth.crowd] for tally in tallies]
    objects = _histogram(counted, classes)
    if not objects.any():
        raise InputError(NOTHING_COUNTS)
    with_masks = all(
        (tally.truth.masks is not None or not len(tally.truth.boxes)) and tally.found.masks is not None
        for tally in tallies
    )
    return Scores(
        _tables(tallies, classes, masks=False),
        _tables(tallies, classes, masks=True) if with_masks else None,
        objects,
        _histogram([tally.found.labels for tally in tallies], classes),
        tuple(tallies),
    )


def _tables(tallies: Sequence[Tally], classes: int, masks: bool) -> AveragePrecision:
    images = [
        {"id": place, "height": tally.size[0], "width": tally.size[1]} for place, tally in enumerate(tallies, start=1)
    ]
    categories = [{"id": label, "name": str(label)} for label in range(1, classes + 1)]

    def coco(annotations: Iterable[dict[str, Any]]) -> COCO:
        # Numbers from 1: what has the number 0 counts as not matched.
        numbered = [{"id": number, **each} for number, each in enumerate(annotations, start=1)]
        return COCO({"images": images, "categories": categories, "annotations": numbered}, print_function=_silent)

    truth = (each for image, tally in enumerate(tallies, start=1) for each in _truth(image, tally.truth, masks))
    found = (each for image, tally in enumerate(tallies, start=1) for each in _found(image, tally.found, masks))
    evaluation = COCOeval_faster(coco(truth), coco(found), iouType="segm" if masks else "bbox", print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    tables = evaluation.eval
    return AveragePrecision(*(np.asarray(tables[name], np.float64) for name in ("precision", "recall", "scores")))


def _truth(image: int, truth: Truth, masks: bool) -> Iterable[dict[str, Any]]:
    entries = zip(truth.labels.tolist(), xywh(truth.boxes), truth.area.tolist(), truth.crowd.tolist(), strict=True)
    for place, (label, box, area, crowd) in enumerate(entries):
        own = {"segmentation": _copied(truth.masks[place])} if masks and truth.masks is not None else {}
        yield {"image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd), **own}


def _found(image: int, found: Found, masks: bool) -> Iterable[dict[str, Any]]:
    entries = zip(found.labels.tolist(), xywh(found.boxes), found.scores.tolist(), strict=True)
    for place, (label, box, certainty) in enumerate(entries):
        entry = {"image_id": image, "category_id": label, "bbox": box, "score": certainty, "iscrowd": 0}
        if masks and found.masks is not None:
            mask = _copied(found.masks[place])
            yield {**entry, "segmentation": mask, "area": float(coco_masks.area(mask))}
        else:
            yield {**entry, "area": box[2] * box[3]}


def xywh(boxes: Array) -> list[list[float]]:
    """Boxes (K, 4) by corners as COCO writes them: x, y, width, height, computed in float64."""
    exact = boxes.astype(np.float64)
    return np.concatenate([exact[:, :2], exact[:, 2:] - exact[:, :2]], 1).tolist()


def _copied(mask: Rle) -> Rle:
    """A mask that faster-coco-eval may add to."""
    return {"size": list(mask["size"]), "counts": mask["counts"]}


def _histogram(labels: Sequence[Array], classes: int) -> Array:
    every = np.concatenate([np.zeros(0, np.int64), *labels])
    return np.bincount(every, minlength=classes + 1)[1:]


def _mean(values: Array) -> float:
    """Over what there is; NaN of nothing."""
    present = values[values > _ABSENT]
    return float(present.mean()) if present.size else float("nan")


def _means(values: Array) -> Array:
    """As `_mean`, of each class: (T, R, C) -> (C,)."""
    return np.array([_mean(values[..., label]) for label in range(values.shape[-1])])


def _place(overlap: float) -> int:
    return int(np.abs(OVERLAPS - overlap).argmin())


def _silent(*_: object) -> None:
    """In place of print."""
