"""Run folders as training writes them, made from formulas, so that a test knows every number in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from switchnorm.tasks.detection.columns import METRICS as METRICS_OF_DETECTION
from tests.report.visits import visit

__all__ = ["make_run", "runs", "visit"]

EPOCHS = 6
LAYERS = [
    "stem.norm",
    *(f"stages.{stage}.{block}.norm{norm}" for stage in range(2) for block in range(2) for norm in (1, 2)),
]
STATISTICS = ("instance", "layer", "batch")
FINAL = {"bn": 0.70, "gn+ws": 0.78, "sn": 0.80, "ssn": 0.81}
SEEDS = (0, 1, 2)
METRICS = [
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_accuracy_top5",
    "learning_rate", "radius", "images_per_second",
]  # fmt: skip

SEGMENTATION_METRICS = [
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_mean_iou", "val_accuracy", "val_overall",
    "learning_rate", "radius", "images_per_second",
]  # fmt: skip

DETECTION_METRICS = [
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", *(metric.column for metric in METRICS_OF_DETECTION),
    "learning_rate", "radius", "images_per_second",
]  # fmt: skip

Make = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> Make:
    """A function that writes one run folder: `make_run("sn", seed=1, settings={"train.samples_per_gpu": 4})`."""

    def make(
        norm: str, seed: int = 0, *, final: float | None = None, settings: dict[str, Any] | None = None,
        epochs: int = EPOCHS, layers: Sequence[str] = LAYERS, folder: str | None = None, task: str = "classification",
    ) -> Path:  # fmt: skip
        path = tmp_path / (folder or f"{norm.replace('+', '-')}-{seed}")
        path.mkdir()
        accuracy = FINAL[norm] + 0.01 * (seed - 1) if final is None else final
        write_config(path, norm, seed, {"task": task, **(settings or {})})
        write_provenance(path, norm, seed)
        write_metrics(path, accuracy, epochs, norm == "ssn", task)
        if norm.split("+")[0] in ("sn", "ssn"):
            write_importance(path, norm, epochs, layers)
        return path

    return make


@pytest.fixture
def runs(make_run: Make) -> list[Path]:
    """Four normalizers with three seeds each."""
    return [make_run(norm, seed) for norm in FINAL for seed in SEEDS]


def write_config(path: Path, norm: str, seed: int, settings: dict[str, Any]) -> None:
    config: dict[str, Any] = {
        "task": "classification",
        "seed": seed,
        "name": path.name,
        "model": {"name": "cifar_resnet20", "norm": norm},
        "data": {"name": "digits"},
        "train": {"epochs": EPOCHS, "batch_size": 32, "samples_per_gpu": 2, "sync": False},
        "optimizer": {"lr": 0.1, "momentum": 0.9},
        "schedule": {"name": "cosine"},
    }
    for key, value in settings.items():
        *rooms, name = key.split(".")
        place = config
        for room in rooms:
            place = place.setdefault(room, {})
        place[name] = value
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def write_provenance(path: Path, norm: str, seed: int) -> None:
    provenance = {
        "name": path.name,
        "command": f"switchnorm train --recipe digits --norm {norm} --seed {seed}",
        "created": "2026-01-05T12:00:00",
        "seed": seed,
        "versions": {"python": "3.12.1", "torch": "2.9.0", "switchnorm": "0.1.0"},
        "hardware": {"device": "cpu", "name": "a small machine", "cores": 2},
        "git": {"revision": "21584d7", "dirty": False},
        "status": "finished",
        "seconds": 40.0 + seed,
        "result": {"val_accuracy": 0.8},
    }
    (path / "run.json").write_text(json.dumps(provenance, indent=2))


def record(path: Path, **changes: Any) -> Path:
    """The run with other entries in its record."""
    file = path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}, indent=2))
    return path


def known_data(path: Path, mark: str, *, trained_on: str = "t") -> Path:
    """The run with a record of its data: what its test samples and its training samples are known by."""
    parts = {"train": {"count": 48, "digest": trained_on * 32}, "test": {"count": 12, "digest": mark * 32}}
    return record(path, data=parts, classes=["cat", "dog"])


def write_metrics(path: Path, final: float, epochs: int, with_radius: bool, task: str) -> None:
    """The score peaks an epoch before the end, one point above the final one; pixel accuracy is 0.1 above mean IoU."""
    columns = {"segmentation": SEGMENTATION_METRICS, "detection": DETECTION_METRICS}.get(task, METRICS)
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for epoch in range(epochs):
            left = 1 - (epoch + 1) / epochs
            accuracy = final + 0.01 if epoch == epochs - 2 else final * (1 - left**2)
            row = {
                "epoch": epoch + 1,
                "step": 45 * (epoch + 1),
                "train_loss": 0.2 + 2 * left**2,
                "train_accuracy": accuracy,
            }
            row |= {"val_loss": 0.4 + left}
            if task == "detection":
                row |= {"train_accuracy": "", "val_loss": "", "val_ap": accuracy, "val_ap50": min(1, accuracy + 0.2)}
                row |= {"val_ap_small": accuracy - 0.3, "val_ar": accuracy + 0.1}
            elif task == "segmentation":
                row |= {"val_mean_iou": accuracy, "val_accuracy": accuracy + 0.1, "val_overall": accuracy + 0.05}
            else:
                row |= {"val_accuracy": accuracy, "val_accuracy_top5": 0.99}
            row |= {"learning_rate": 0.1 * left, "radius": (1 - left) if with_radius else "", "images_per_second": 900}
            writer.writerow(row)


def importance(norm: str, done: float, depth: float) -> dict[str, list[float]]:
    """Weights that move from a third each towards instance early and batch late in the network; SSN becomes one-hot."""
    mean = [1 - depth, 0.6, depth + 0.2]
    var = [0.5, 1 - depth, depth]
    weights = {}
    for moment, scores in {"mean": mean, "var": var}.items():
        sharp = [score ** (1 + 3 * done) for score in scores]
        if norm == "ssn" and done == 1:
            sharp = [float(score == max(scores)) for score in scores]
        weights[moment] = [score / sum(sharp) for score in sharp]
    return weights


def write_importance(path: Path, norm: str, epochs: int, layers: Sequence[str]) -> None:
    with (path / "importance.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "layer", "moment", "statistic", "importance"])
        for epoch in range(epochs):
            for depth, layer in enumerate(layers):
                weights = importance(norm, (epoch + 1) / epochs, depth / len(layers))
                for moment, values in weights.items():
                    for statistic, value in zip(STATISTICS, values, strict=True):
                        writer.writerow([epoch + 1, layer, moment, statistic, value])
