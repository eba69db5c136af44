"""Run folders of segmentation, with every number and pixel known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Make, make_run
from tests.tasks.segmentation import scenes

__all__ = ["make_run", "make_scenes"]

LAYERS = ["encoder.sn1", "encoder.layer1.0.sn1", "encoder.layer2.0.sn1", "decoder.cbr.1", "decoder.cbr_deepsup.1"]


@pytest.fixture
def make_scenes(make_run: Make) -> Make:
    """`make_run` for segmentation, with classes, confusion and pictures: `make_scenes("sn", classes=11)`."""

    def make(
        norm: str, seed: int = 0, *, classes: int = 4, settings: dict[str, Any] | None = None, **options: Any
    ) -> Path:
        data = {"data.name": "camvid", "model.name": "resnet18+c1_bilinear", **(settings or {})}
        path = make_run(norm, seed, task="segmentation", settings=data, layers=LAYERS, **options)
        scenes.write(path, classes, shift=2 if norm == "bn" else 1)
        return path

    return make
