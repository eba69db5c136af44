"""Run folders as data: reading the files that training leaves behind, and nothing else of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from switchnorm.config import plugins
from switchnorm.config.keys import flatten
from switchnorm.config.norms import spelled
from switchnorm.config.schema import SECTIONS, Config
from switchnorm.config.task_spec import tasks
from switchnorm.data import dataset_class, dataset_classes
from switchnorm.errors import InputError
from switchnorm.recipes.located import read_located
from switchnorm.runs.appearance import Appearance, recorded, registered
from switchnorm.runs.data_changes import check_fingerprint
from switchnorm.runs.importance import LayerWeights, read_importance
from switchnorm.runs.reading import check_inside, read_provenance, read_text
from switchnorm.runs.score import Score, score_of
from switchnorm.runs.tables import epoch_of, epoch_shift, number, table

_FILES = ("config.yaml", "run.json", "metrics.csv", "importance.csv")
#: What reports compute with, or look up.
_TYPES: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(("task", "label", "model.name", "model.norm", "model.conv", "data.name"), (str, "text")),
    **dict.fromkeys(("train.batch_size", "train.samples_per_gpu"), (int, "a whole number, 1 or more")),
    "seed": (int, "a whole number"),
}
_LOSSES = ("train_loss", "val_loss")


@dataclass(frozen=True)
class Run:
    """One training run, as its folder describes it."""

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    metrics: list[dict[str, float | None]]
    """A row per finished epoch, counted from 1; a value that was not measured, or is not finite, is None."""
    importance: dict[int, list[LayerWeights]]
    """The layers in the order of depth, by epoch; empty where no layer mixes statistics."""
    diverged: int | None = None
    """The epoch, from 1, in which the run diverged, if it ended so."""

    @property
    def name(self) -> str:
        """What the run calls itself, else the name of its folder."""
        return str(self.provenance.get("name") or self.path.name)

    @property
    def label(self) -> str | None:
        """What reports shall call the run instead of its normalizer, or None."""
        return str(self.config["label"]) if self.config.get("label") else None

    @property
    def norm(self) -> str:
        """The normalizer, as the configuration spells it, or as the network has it where that leaves it open."""
        model = self.config["model"]
        known = recorded(self.provenance.get("normalizer"))
        if model.get("norm") or known is None:
            return spelled(str(model.get("norm") or _own_norm(str(model.get("name")))), model.get("norms") or {})
        return known.name

    @property
    def appearance(self) -> Appearance:
        """How reports show the normalizer."""
        known = recorded(self.provenance.get("normalizer"))
        return registered(self.norm) if known is None else replace(known, name=self.norm)

    @property
    def task(self) -> str:
        """What the network was trained for."""
        return _task(self.config)

    @property
    def score(self) -> Score:
        """The number by which the run is judged."""
        return score_of(self.task)

    @property
    def seed(self) -> Any:
        """The seed, or None."""
        return self.config.get("seed")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.provenance.get("status") == "finished"

    @property
    def stopped(self) -> bool:
        """Whether the run was ended before its last epoch, since its score no longer rose (`train.patience`)."""
        return isinstance(self.provenance.get("stopped"), dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as one level of dotted keys, with the defaults of those that it lacks.

        No samples per GPU means the whole batch, or the share of it that each of several processes had.
        """
        settings = {**_defaults(self.config), **dict(flatten(self.config))}
        settings |= {"task": self.task, "model.norm": self.norm, "label": self.label}
        batch = settings.get("train.batch_size")
        if settings.get("train.samples_per_gpu") is None and isinstance(batch, int):
            processes = 1 if settings.get("train.sync") else int(self.provenance.get("processes") or 1)
            settings["train.samples_per_gpu"] = batch // processes
        return settings

    @property
    def test_data(self) -> tuple[str, ...] | None:
        """What tells the run's test data from other data of its name, wherever that lies; None where nobody knows.

        The number of samples first; then digests of their names and objects, the split and the classes.
        """
        part = (self.provenance.get("data") or {}).get("test") or {}
        if "digest" not in part:
            return None
        split, classes = self.settings.get("data.split"), self.provenance.get("classes")
        return (*(str(part.get(key)) for key in ("count", "digest", "objects")), str(split), repr(classes))

    @property
    def training_data(self) -> str | None:
        """Number of the training samples and digest of their names, "48 samples (5f0c1a)"; None where nobody knows."""
        part = (self.provenance.get("data") or {}).get("train") or {}
        return f"{part['count']} samples ({part['digest'][:6]})" if "digest" in part else None

    @property
    def choices(self) -> list[LayerWeights]:
        """The importance after the last epoch."""
        return self.importance[max(self.importance)] if self.importance else []

    def is_copy(self, other: Run) -> bool:
        """Whether both are the record of one training."""
        return (self.provenance, self.config, self.metrics) == (other.provenance, other.config, other.metrics)

    def measured(self, column: str) -> dict[int, float]:
        """A column of the metrics by epoch, without the epochs that did not measure it."""
        rows = ((row["epoch"], row.get(column)) for row in self.metrics)
        return {int(epoch): value for epoch, value in rows if epoch is not None and value is not None}


def _defaults(config: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the keys of a run, of which folders of earlier versions lack some."""
    schemas: dict[str, Any] = dict(SECTIONS)
    data = (config.get("data") or {}).get("name")
    if data in dataset_classes() and is_dataclass(dataset_class(data)):
        schemas["data"] = dataset_class(data)
    found = {}
    for section, schema in schemas.items():
        for each in fields(schema):
            if each.default is not MISSING:
                found[f"{section}.{each.name}"] = each.default
    return found


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
    for name in _FILES:
        check_inside(path, path / name)
    config = _read_config(path / "config.yaml")
    start = start_epoch(config)
    metrics, diverged = _read_metrics(path / "metrics.csv", start, score_of(_task(config)))
    provenance = read_provenance(path / "run.json")
    check_fingerprint(provenance.get("data") or {}, str(path / "run.json"))
    where = provenance.get("diverged")
    if provenance.get("status") == "diverged" and isinstance(where, dict) and isinstance(where.get("epoch"), int):
        diverged = where["epoch"]
    if not metrics:
        none = "at least one finished epoch" if diverged is None else f"one, and it diverged in epoch {diverged}"
        raise InputError(f"{path / 'metrics.csv'} has no rows: expected a run with {none}")
    return Run(
        path=path,
        config=config,
        provenance=provenance,
        metrics=metrics,
        importance=read_importance(path / "importance.csv", start),
        diverged=diverged,
    )


def load_runs(paths: Iterable[Path]) -> list[Run]:
    """Read run folders, each once, by whatever paths it is given.

    Raises:
        InputError: as `load_run`, or one is a copy of another, which would count as a second training.
    """
    first: dict[str, Path] = {}
    for path in map(Path, paths):
        first.setdefault(os.path.realpath(path), path)
    runs: list[Run] = []
    for path in first.values():
        run = load_run(path)
        same = next((each for each in runs if run.provenance.get("created") and run.is_copy(each)), None)
        if same is not None:
            raise InputError(f"{path} is a copy of {same.path}, and no second training; give one of them")
        runs.append(run)
    return runs


def _read_config(path: Path) -> dict[str, Any]:
    read_text(path)  # which knows what to say of a file that is none, or no text
    config = read_located(path, str(path)).content
    for section in SECTIONS.keys() | {"data"}:
        if not isinstance(config.get(section) or {}, dict):
            raise InputError(f"{path}: {section} is {config[section]!r:.80}, expected keys below it")
    settings = dict(flatten(config))
    for key, (kind, expected) in _TYPES.items():
        value = settings.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InputError(f"{path}: {key} is {value!r:.80}, expected {expected}")
        if isinstance(value, int) and value < (key != "seed"):
            raise InputError(f"{path}: {key} is {value!r:.80}, expected {expected}")
    if not (settings.get("model.norm") or settings.get("model.name")):
        raise InputError(f"{path} names no network: expected the key model.name")
    norms = (config.get("model") or {}).get("norms") or {}
    if not isinstance(norms, dict) or not all(isinstance(norm, str) for norm in norms.values()):
        raise InputError(f"{path}: model.norms is {norms!r:.80}, expected names of normalizers by part")
    task = _task(config)
    if task not in tasks():
        named = config.get("plugins") or []
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise InputError(f"{path}: plugins is {named!r:.80}, expected a list of modules")
        plugins.load_known(named, str(path))
    try:
        score_of(task)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return config


def _task(config: Mapping[str, Any]) -> str:
    return str(config.get("task") or Config.task)


def start_epoch(config: Mapping[str, Any]) -> int:
    """The epochs that counted as done when a run began, by its configuration."""
    train = config.get("train")
    start = train.get("start_epoch") if isinstance(train, dict) else None
    return start if isinstance(start, int) else 0


def _own_norm(network: str) -> str:
    """The normalizer that a network's name implies; "built-in" where it implies none, as torchvision's and timm's."""
    from switchnorm.models import norm_of  # Imports torch, needed only for runs whose record has no normalizer.

    return norm_of(network) or "built-in"


def _read_metrics(path: Path, start: int, score: Score) -> tuple[list[dict[str, float | None]], int | None]:
    """A row per epoch, from 1, and the epoch in which the loss stopped being a number for good."""
    fractions = [score.column, *(column for _, column in score.others)]
    metrics: list[dict[str, float | None]] = []
    diverged: int | None = None
    shift: int | None = None
    for where, row in table(path, ("epoch",)):
        values = {name: number(where, name, written) for name, written in row.items()}
        epoch = epoch_of(where, row["epoch"])
        shift = epoch_shift(row["epoch"], start) if shift is None else shift
        values["epoch"] = epoch + shift
        if metrics and epoch + shift <= (metrics[-1]["epoch"] or 0):
            raise InputError(f"{where}: epoch {epoch} comes after another that is no earlier")
        for name in fractions:
            if not 0 <= (values.get(name) or 0) <= 1:
                raise InputError(f"{where}: {name} is {row[name]!r:.80}, expected a fraction from 0 to 1")
        if not any(row.get(loss, "").strip() and values[loss] is None for loss in _LOSSES):
            diverged = None
        elif diverged is None:
            diverged = epoch + shift
        metrics.append(values)
    return metrics, diverged
