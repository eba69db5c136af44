"""Runs of each task as training leaves them, with random weights, and what their own evaluation says about pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from switchnorm.config.recipe import read_config
from switchnorm.data import Dataset, create_dataset
from switchnorm.data.files.picture_file import read_picture
from switchnorm.runs.classes import classes_of, record_of
from switchnorm.runs.folder import RunFolder
from switchnorm.tasks.detection.found import Found, in_original
from switchnorm.tasks.segmentation.prediction import predict
from switchnorm.training.build import build_model, make_task
from tests.training.objects import write_objects
from tests.training.scenes import VOID, write_scenes

_TRAIN = {"epochs": 1, "batch_size": 4, "device": "cpu", "loggers": []}
CONTENT: dict[str, dict[str, Any]] = {
    "classification": {
        "model": {"name": "digits_resnet9", "norm": "ssn"},
        "data": {"name": "digits"},
    },
    "segmentation": {
        "model": {"name": "resnet18+c1_bilinear", "norm": "sn"},
        "data": {"name": "masks", "test_sides": [40, 72], "workers": 0, "colors": "published", "ignore": [VOID]},
        "segmentation": {"flip": True, "window": 64},
    },
    "detection": {
        "model": {
            "name": "resnet18_fpn16+mask_4conv1fc",
            "norm": "sn",
            "options": {"box_channels": 16, "anchor_size": 8.0, "proposals_test": 20},
        },
        "data": {"name": "coco", "test_side": 48, "workers": 0, "masks": True},
        "detection": {"score_threshold": 0.3, "detections": 15, "shown": 0.2},
    },
}
_PICTURES = {"segmentation": write_scenes, "detection": write_objects}


def write_run(folder: Path, task: str, **options: Any) -> RunFolder:
    """A run in `folder`, and its data beside it.

    Args:
        folder: which does not exist.
        task: of the run.
        **options: of its dataset, besides those of `CONTENT`.
    """
    content = {**CONTENT[task], "train": _TRAIN}
    data = {**content["data"], **options}
    if task in _PICTURES:
        root = folder.with_name(f"{folder.name}-data")
        if not root.exists():
            _PICTURES[task](root, {"train": 4, "val": 3})
        data["root"] = str(root)
    recipe = folder.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump({**content, "data": data}))
    config = read_config(recipe, [])
    dataset = create_dataset(**config.data)
    run = RunFolder.create(folder, config, (), **record_of(dataset))
    model = disturbed(build_model(config, dataset.num_classes))
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "training_metrics": [], **classes_of(dataset).entries()}, run.best)
    return run


def disturbed(model: nn.Module) -> nn.Module:
    """The network with running statistics and choices as training leaves them."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("running_mean", "mean_weight", "var_weight")):
                value.copy_(torch.randn(value.shape, generator=draw) * 0.5)
            elif name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
    return model


class Evaluation:
    """A run's own evaluation, as `switchnorm eval` computes it."""

    def __init__(self, run: RunFolder) -> None:
        config = run.config()
        self.dataset: Dataset = create_dataset(**config.data)
        model = build_model(config, self.dataset.num_classes)
        self.task: Any = make_task(config, model, self.dataset.num_classes).eval()
        self.task.load_state_dict(torch.load(run.best)["state_dict"], strict=False)

    @torch.no_grad()
    def logits(self, path: Path) -> np.ndarray:
        """Of a classifier, (K,)."""
        picture = read_picture(str(path), self.dataset.pixels)
        return self.task(self.dataset.shown(picture)[None])[0].numpy()

    def labels(self, path: Path) -> np.ndarray:
        """Of pixels, (H, W)."""
        scene = self.dataset.scene(read_picture(str(path), self.dataset.pixels))  # type: ignore[attr-defined]
        ((_, found),) = predict(self.task, [scene], self.task.inference)
        return found.labels.numpy()

    @torch.no_grad()
    def found(self, path: Path) -> Found:
        """Objects."""
        scene = self.dataset.scene(read_picture(str(path), self.dataset.pixels))  # type: ignore[attr-defined]
        return in_original(scene, self.task.detect(scene))


def pictures(run: RunFolder) -> list[Path]:
    """The test pictures of a run, of several sizes."""
    return sorted((Path(run.config().data["root"]) / "val").glob("*.png"))
