"""A small detector with masks, trained for two epochs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from switchnorm.config.recipe import read_config
from switchnorm.runs.folder import RunFolder
from switchnorm.training.launch import start
from tests.training.objects import write_objects

CONFIG = {
    "model": {
        "name": "resnet18_fpn16+mask_4conv1fc",
        "norm": "sn",
        "options": {
            "box_channels": 16,
            "anchor_size": 8.0,
            "anchors_per_image": 32,
            "rois_per_image": 16,
            "proposals_train": 40,
            "proposals_test": 20,
        },
    },
    "data": {"name": "coco", "test_side": 48, "workers": 0, "masks": True},
    "train": {"epochs": 2, "batch_size": 4, "samples_per_gpu": 2, "device": "cpu", "loggers": []},
    "optimizer": {"lr": 0.02, "nesterov": False},
    "detection": {"examples": 2, "shown": 0.2},
}
PICTURES = 5


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For pictures with numbers of classes and pictures that are not from 1 in turn."""
    folder = tmp_path_factory.mktemp("detection")
    root = write_objects(folder / "objects", {"train": 4, "val": PICTURES})
    renumber(root / "annotations" / "val.json")
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "data": {**CONFIG["data"], "root": str(root)}}))
    return path


def renumber(path: Path) -> None:
    """Let pictures have the ids 207, 307, ..., and classes 13 and 40, in the order of another split."""
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["id"] = 100 * image["id"] + 107
    for category in content["categories"]:
        category["id"] = {1: 40, 2: 13}[category["id"]]
    for annotation in content["annotations"]:
        annotation["image_id"] = 100 * annotation["image_id"] + 107
        annotation["category_id"] = {1: 40, 2: 13}[annotation["category_id"]]
    path.write_text(json.dumps(content))


def train(recipe: Path, path: Path, *flags: str) -> RunFolder:
    return start(read_config(recipe, flags), path, default=path, command=(), quiet=True)[0]


@pytest.fixture(scope="session")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(recipe, tmp_path_factory.mktemp("detection") / "run")
