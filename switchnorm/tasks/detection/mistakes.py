"""How many objects of a picture were found, and how many detections are none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from switchnorm.tasks.detection.average_precision import xywh
from switchnorm.tasks.detection.found import Found, Truth

Array = np.ndarray[Any, Any]

#: The overlap from which a detection is one of an object.
OVERLAP = 0.5


class Mistakes(NamedTuple):
    """What of a picture was found.

    Attributes:
        right: objects that were found.
        missed: objects that were not.
        wrong: detections of no object; on a crowd none is wrong.
    """

    right: int
    missed: int
    wrong: int

    @property
    def f1(self) -> float:
        """Twice the objects found, over all objects and all detections, in [0, 1]; 1 where there are neither."""
        both = 2 * self.right + self.missed + self.wrong
        return 2 * self.right / both if both else 1.0


def mistakes(truth: Truth, found: Found, least: float) -> Mistakes:
    """Hold detections against objects as COCO's evaluation does, by boxes that overlap by half or more.

    Args:
        truth: the objects.
        found: the detections.
        least: the score from which they count.
    """
    found = found.chosen(found.scores >= least)
    right = wrong = 0
    for label in np.unique(found.labels):
        there, own = truth.labels == label, found.labels == label
        order = np.argsort(-found.scores[own], kind="stable")
        matched, mistaken = _matched(truth.boxes[there], truth.crowd[there], found.boxes[own][order])
        right, wrong = right + matched, wrong + mistaken
    return Mistakes(right, int((~truth.crowd).sum()) - right, wrong)


def _matched(there: Array, crowd: Array, found: Array) -> tuple[int, int]:
    """How many boxes found are an object's, and how many are nobody's, the best first."""
    if not len(there):
        return 0, len(found)
    # Of a crowd, the share of the detection that lies on it.
    overlaps = np.asarray(coco_masks.iou(xywh(found), xywh(there), crowd.astype(int).tolist()))
    free = ~crowd
    right = wrong = 0
    for row in overlaps:
        candidates = np.where(free, row, -1)
        best = int(candidates.argmax())
        if candidates[best] >= OVERLAP:
            free[best] = False
            right += 1
        elif not (row[crowd] >= OVERLAP).any():
            wrong += 1
    return right, wrong
