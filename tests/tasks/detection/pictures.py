"""Random pictures with objects, crowds and detections."""

from __future__ import annotations

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from switchnorm.tasks.detection.average_precision import Tally
from switchnorm.tasks.detection.found import Found, Truth


def boxes(draw: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """(count, 4) float32 within a picture of that height and width, of all sizes that COCO tells apart."""
    height, width = size
    sides = np.exp(draw.uniform(np.log(4), np.log(min(size) - 1), (count, 2)))
    corner = draw.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def mask(box: np.ndarray, size: tuple[int, int]) -> dict:
    """An ellipse in a box as run lengths."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    (x1, y1, x2, y2) = box
    inside = ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25
    return coco_masks.encode(np.asfortranarray(inside.astype(np.uint8)))


def tally(
    draw: np.random.Generator,
    index: int,
    *,
    classes: int,
    objects: int,
    detections: int,
    crowds: float = 0.0,
    ties: bool = False,
    masks: bool = False,
    size: tuple[int, int] = (120, 160),
) -> Tally:
    """A picture whose detections are the objects, moved, of which some got another class; and others at random."""
    there = boxes(draw, objects, size)
    labels = draw.integers(1, classes + 1, objects)
    crowd = draw.uniform(size=objects) < crowds
    near = min(objects, detections)
    moved = there[:near] + draw.normal(0, 2, (near, 4)).astype(np.float32)
    found = np.concatenate([moved, boxes(draw, detections - near, size)])
    found = np.concatenate([np.minimum(found[:, :2], found[:, 2:] - 1), found[:, 2:]], 1)
    found = np.clip(found, 0, np.array([size[1], size[0]] * 2)).astype(np.float32)
    wrong = draw.uniform(size=near) < 0.2
    named = np.where(wrong, draw.integers(1, classes + 1, near), labels[:near])
    named = np.concatenate([named, draw.integers(1, classes + 1, detections - near)])
    scores = draw.uniform(0.05, 1, detections)
    scores = (np.round(scores, 1) if ties else scores).astype(np.float32)
    shapes = tuple(mask(box, size) for box in there) if masks else None
    area = (there[:, 2:] - there[:, :2]).prod(1).astype(np.float64)
    if shapes is not None:
        area = np.array([coco_masks.area(each) for each in shapes], np.float64)
    return Tally(
        index,
        size,
        Truth(there, labels, area, crowd, shapes),
        Found(found, named, scores, tuple(mask(box, size) for box in found) if masks else None),
    )
