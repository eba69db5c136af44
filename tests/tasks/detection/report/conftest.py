"""Run folders of detectors, with every number known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from switchnorm.runs.tables import csv_text
from switchnorm.tasks.detection import files
from switchnorm.tasks.detection.average_precision import score
from tests.report.conftest import Make, make_run
from tests.report.visits import visit
from tests.tasks.detection.pictures import tally

__all__ = ["make_detector", "make_run", "visit"]

LAYERS = ["body.stem.sn1", "body.layer1.0.sn1", "neck.lateral.0.1", "neck.output.0.1", "box.convs.1"]


@pytest.fixture
def make_detector(make_run: Make) -> Make:
    """`make_run` for detection, with classes, curves and pictures: `make_detector("sn", classes=11, masks=True)`."""

    def make(
        norm: str, seed: int = 0, *, classes: int = 3, masks: bool = False, settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> Path:  # fmt: skip
        data = {"data.name": "coco", "model.name": "resnet18_fpn16+faster_4conv1fc", **(settings or {})}
        path = make_run(norm, seed, task="detection", settings=data, layers=LAYERS, **options)
        draw = np.random.default_rng(len(norm))
        # Of the last class no picture has an object.
        found = score(
            [
                tally(draw, place, classes=classes - 1, objects=3 * classes, detections=4 * classes, masks=masks)
                for place in range(9)
            ],
            classes,
        )
        names = [f"class {place}" for place in range(classes)]
        rows = [[epoch, *row] for epoch in (1, 6) for row in files.class_rows(names, found)]
        (path / files.CLASSES).write_text(csv_text([files.CLASS_COLUMNS, *rows]))
        (path / files.CURVES).write_text(files.curves_text(names, found))
        (path / files.EXAMPLES).mkdir()
        for name in ("street", "square"):
            for kind in (files.OBJECTS, files.FOUND):
                Image.new("RGB", (48, 30), "teal").save(path / files.EXAMPLES / f"{name}.{kind}")
        listed = [{"name": name, "right": 3, "missed": 1, "wrong": len(norm)} for name in ("street", "square")]
        text = files.examples_text(6, 0.5, dict.fromkeys(names, "#102030"), listed)
        (path / files.EXAMPLES / files.EXAMPLES_LIST).write_text(text)
        return path

    return make
