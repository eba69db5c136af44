"""Run folders as data: reading the files that training leaves behind, and nothing else of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from switchnorm.errors import InputError, unknown
from switchnorm.report import files
from switchnorm.report.score import CLASSIFICATION, SCORES, Score

_LOSSES = ("train_loss", "val_loss")
_IMPORTANCE_COLUMNS = ("epoch", "layer", "moment", "statistic", "importance")


@dataclass(frozen=True)
class LayerWeights:
    """The importance of each statistic in one layer, for its mean and for its variance."""

    layer: str
    statistics: tuple[str, ...]
    mean: tuple[float, ...]
    var: tuple[float, ...]
    frozen: bool = False
    """Files hold numbers, not modules: only a live model can say that a layer is frozen."""


@dataclass(frozen=True)
class Run:
    """One training run, as its folder describes it."""

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    metrics: list[dict[str, float | None]]
    """A row per finished epoch; a value that was not measured, or is not finite, is None."""
    importance: dict[int, list[LayerWeights]]
    """The layers in the order of depth, by epoch; empty where no layer mixes statistics."""
    diverged: int | None = None
    """The epoch in which the loss stopped being a number, if it ended so."""

    @property
    def name(self) -> str:
        """What the run calls itself, else the name of its folder."""
        return str(self.provenance.get("name") or self.path.name)

    @property
    def norm(self) -> str:
        """The normalizer, as the configuration spells it, or as the network has it where that leaves it open."""
        model = self.config["model"]
        return str(model["norm"]) if model.get("norm") else _own_norm(str(model.get("name")))

    @property
    def task(self) -> str:
        """What the network was trained for."""
        return str(self.config.get("task") or CLASSIFICATION.task)

    @property
    def score(self) -> Score:
        """The number by which the run is judged."""
        return SCORES[self.task]

    @property
    def seed(self) -> Any:
        """The seed, or None."""
        return self.config.get("seed")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.provenance.get("status") == "finished"

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as one level of dotted keys; no samples per GPU means the whole batch on one."""
        settings = {**dict(flatten(self.config)), "task": self.task, "model.norm": self.norm}
        if settings.get("train.samples_per_gpu") is None:
            settings["train.samples_per_gpu"] = settings.get("train.batch_size")
        return settings

    @property
    def choices(self) -> list[LayerWeights]:
        """The importance after the last epoch."""
        return self.importance[max(self.importance)] if self.importance else []

    def measured(self, column: str) -> dict[int, float]:
        """A column of the metrics by epoch, without the epochs that did not measure it."""
        rows = ((row["epoch"], row.get(column)) for row in self.metrics)
        return {int(epoch): value for epoch, value in rows if epoch is not None and value is not None}


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping under dotted keys: `{"a": {"b": 1}}` yields `("a.b", 1)`."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def load_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: the folder is not a run's, a file is missing or damaged, or no epoch was finished.
    """
    path = Path(path)
    if not (path / "config.yaml").is_file():
        inside = any(path.glob("*/config.yaml"))
        hint = f"; the folders inside it are: give {path / '*'}" if inside else ""
        raise InputError(f"{path} is not a run folder: it has no config.yaml{hint}")
    metrics, diverged = _read_metrics(path / "metrics.csv")
    return Run(
        path=path,
        config=_read_config(path / "config.yaml"),
        provenance=files.record(path / "run.json", "the provenance of a run"),
        metrics=metrics,
        importance=_read_importance(path / "importance.csv"),
        diverged=diverged,
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(files.text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is damaged: expected the configuration of a run as YAML") from error
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not (model.get("norm") or model.get("name")):
        raise InputError(f"{path} names no network: expected the key model.name")
    if str(config.get("task") or CLASSIFICATION.task) not in SCORES:
        raise InputError(f"{path}: {unknown('task', str(config['task']), SCORES)}")
    return config


def _own_norm(network: str) -> str:
    """What a network normalizes with by itself; networks of torchvision and timm are as their authors built them."""
    from switchnorm.models import norm_of  # It imports torch, which only such runs have to wait for.

    return norm_of(network) or "built-in"


def _read_metrics(path: Path) -> tuple[list[dict[str, float | None]], int | None]:
    """A row per epoch, and the epoch in which the loss stopped being a number for good."""
    metrics = []
    diverged: int | None = None
    for where, row in files.table(path, ("epoch",)):
        values = {name: files.number(where, name, text) for name, text in row.items()}
        if values["epoch"] is None:
            raise InputError(f"{where}: the row has no epoch")
        if not any(row.get(loss, "").strip() and values[loss] is None for loss in _LOSSES):
            diverged = None
        elif diverged is None:
            diverged = int(values["epoch"])
        metrics.append(values)
    if not metrics:
        raise InputError(f"{path} has no rows: expected a run with at least one finished epoch")
    return metrics, diverged


def _read_importance(path: Path) -> dict[int, list[LayerWeights]]:
    """The layers by epoch; no file, or an empty one, means a network that mixes nothing."""
    if not path.exists():
        return {}
    epochs: dict[int, dict[str, dict[str, dict[str, float]]]] = {}
    for where, row in files.table(path, _IMPORTANCE_COLUMNS):
        if row["moment"] not in ("mean", "var"):
            raise InputError(f"{where}: moment is {row['moment']!r}, expected 'mean' or 'var'")
        epoch, importance = (files.number(where, name, row[name]) for name in ("epoch", "importance"))
        if epoch is None or importance is None:
            raise InputError(f"{where}: expected a number for both epoch and importance")
        moments = epochs.setdefault(int(epoch), {}).setdefault(row["layer"], {"mean": {}, "var": {}})
        moments[row["moment"]][row["statistic"]] = importance
    return {epoch: [_layer(path, epoch, *item) for item in layers.items()] for epoch, layers in epochs.items()}


def _layer(path: Path, epoch: int, name: str, moments: Mapping[str, Mapping[str, float]]) -> LayerWeights:
    mean, var = moments["mean"], moments["var"]
    if tuple(mean) != tuple(var):
        raise InputError(f"{path}, epoch {epoch}: layer {name!r} must list the same statistics for mean and var")
    return LayerWeights(name, tuple(mean), tuple(mean.values()), tuple(var.values()))
