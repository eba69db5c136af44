"""What a segmentation run leaves behind besides its scores, made from pictures of stripes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from switchnorm.data.segmentation.palette import distinct_colors, mask_image

Array = np.ndarray[Any, Any]
IGNORED = 255
EPOCHS = (1, 6)


def stripes(classes: int, width: int = 48, height: int = 30) -> Array:
    """(height, width): as many stripes as there are classes but one, which is never seen; the last column is void."""
    row = np.arange(width) * (classes - 1) // width
    row[-1] = IGNORED
    return np.broadcast_to(row, (height, width)).astype(np.uint8)


def count(target: Array, predicted: Array, classes: int) -> Array:
    """(K, K): pixels by true class and predicted class."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (target[target != IGNORED].astype(int), predicted[target != IGNORED].astype(int)), 1)
    return counts


def write(path: Path, classes: int, shift: int, names: Sequence[str] = ("street", "square")) -> None:
    """Classes "class 0" and so on in stripes, predicted so many pixels too far to the right."""
    target = stripes(classes)
    predicted = np.roll(np.where(target == IGNORED, 0, target), shift, axis=1).astype(np.uint8)
    picture = np.stack([target, predicted, np.full_like(target, 90)], -1)
    every = [f"class {place}" for place in range(classes)]
    write_files(path, every, distinct_colors(classes), dict.fromkeys(names, (picture, target, predicted)))


def write_files(
    path: Path, classes: Sequence[str], palette: Array, pictures: Mapping[str, tuple[Array, Array, Array]]
) -> None:
    """classes.csv, confusion.csv and examples/ as training writes them, from pictures, targets and predictions."""
    counts = {name: count(target, predicted, len(classes)) for name, (_, target, predicted) in pictures.items()}
    total = np.sum(list(counts.values()), axis=0)
    _write(path / "classes.csv", [("epoch", "class", "iou", "accuracy", "pixels"), *_class_rows(classes, total)])
    rows = ([name, *row] for name, row in zip(classes, total.tolist(), strict=True))
    _write(path / "confusion.csv", [["truth", *classes], *rows])
    folder = path / "examples"
    folder.mkdir()
    for name, (picture, target, predicted) in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.jpg", quality=85)
        mask_image(target, palette).save(folder / f"{name}.truth.png")
        mask_image(predicted, palette).save(folder / f"{name}.prediction.png")
    described = {
        "epoch": EPOCHS[-1],
        "classes": [
            {"name": name, "color": f"#{r:02x}{g:02x}{b:02x}"}
            for name, (r, g, b) in zip(classes, palette.tolist(), strict=True)
        ],
        "pictures": [{"name": name, **_scores(each)} for name, each in counts.items()],
    }
    (folder / "examples.json").write_text(json.dumps(described))


def _class_rows(classes: Sequence[str], counts: Array) -> list[tuple[Any, ...]]:
    """Earlier epochs found nothing."""
    right, pixels = counts.diagonal(), counts.sum(1)
    union = pixels + counts.sum(0) - right
    return [
        (epoch, name, *(_divided(right[k] * (epoch == EPOCHS[-1]), by[k]) for by in (union, pixels)), pixels[k])
        for epoch in EPOCHS
        for k, name in enumerate(classes)
    ]


def _scores(counts: Array) -> dict[str, float]:
    right = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - right
    return {"accuracy": right.sum() / counts.sum(), "mean_iou": float((right[union > 0] / union[union > 0]).mean())}


def _divided(part: int, whole: int) -> float | str:
    return round(part / whole, 6) if whole else ""


def _write(path: Path, rows: Sequence[Any]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
