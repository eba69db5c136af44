"""Loss and scores on the test set: of a run's checkpoint, or of any weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from switchnorm.config.claim import about, make_claim
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task, tasks
from switchnorm.data import Dataset, ImageNet, Views
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.tasks.output import MakeOutput, Output
from switchnorm.tasks.task import Task
from switchnorm.training.build import make_task, prepare_evaluation
from switchnorm.training.loaders import Loaders
from switchnorm.training.trainer import make_trainer
from switchnorm.weights import load_published, load_state, read_checkpoint, read_state


@dataclass(frozen=True)
class Evaluation:
    """How well a network does on a test set.

    Args:
        data: the dataset's name.
        metrics: "val_loss" and what the task measures, in [0, 1].
        pictures: number of test pictures.
        claim: what is reported elsewhere, as in the configuration.
        task: the network with its loss and metrics, and the details that it keeps of this validation.
        dataset: whose test set it was.
        outputs: what is still to be written about it, by the first process.
    """

    data: str
    metrics: dict[str, float]
    pictures: int
    claim: dict[str, Any]
    task: Task
    dataset: Dataset
    outputs: tuple[Output, ...] = ()


def evaluate(
    run: RunFolder,
    checkpoint: Path,
    views: Views = "centre",
    config: Config | None = None,
    *,
    limit: int | None = None,
    outputs: Sequence[MakeOutput] = (),
) -> Evaluation:
    """Evaluate a checkpoint of a run; where the run averaged its weights, that is the average.

    Args:
        run: the run.
        checkpoint: a file.
        views: of each picture; the probabilities are averaged over them.
        config: how to compute and where the data lies, if not as the run's own configuration says.
        limit: how many test pictures, the first; None for all.
        outputs: make what is written about the evaluation besides its scores.

    Raises:
        InputError: no such checkpoint, one of another network, or views that the dataset does not have.
    """
    config = config or run.config()
    model, dataset = prepare_evaluation(config)
    load_state(model, read_state(checkpoint), f"checkpoint {str(checkpoint)!r}")
    return _evaluate(config, model, dataset, views, config.claim, limit, outputs)


def evaluate_weights(
    weights: Sequence[Path],
    config: Config,
    views: Views = "centre",
    *,
    limit: int | None = None,
    outputs: Sequence[MakeOutput] = (),
) -> Evaluation:
    """Evaluate the weights in a file, in a published layout or in this library's.

    Args:
        weights: the file, or the two of a segmentation network's encoder and decoder.
        config: which model and dataset, and how to compute; nothing else of it matters.
        views, limit, outputs: as `evaluate`.

    Raises:
        InputError: as `evaluate`.
    """
    model, dataset = prepare_evaluation(config)
    load_published(model, *weights)
    # What is claimed of published weights is claimed of ImageNet's pictures in the size that they have by default.
    benchmark = {"name": "imagenet", "size": ImageNet.size, "resize": ImageNet.resize}
    claim = claim_of(weights[0]) if benchmark.items() <= config.data.items() else make_claim()
    return _evaluate(config, model, dataset, views, claim, limit, outputs)


def claim_of(weights: Path) -> dict[str, Any]:
    """What a checkpoint's metadata, or the card beside it, claims; empty where there is neither.

    Raises:
        InputError: no readable checkpoint.
    """
    metadata = read_checkpoint(weights).metadata
    top1, top5, source = metadata.top1, metadata.top5, metadata.source
    card = weights.with_suffix(".json")
    if top1 is None and card.is_file():
        try:
            entries = json.loads(card.read_text(encoding="utf-8"))
            top1, top5, source = (entries.get(name) for name in ("top1", "top5", "source"))
            return make_claim(top1=_percent(top1), top5=_percent(top5), source=str(source or ""))
        except (ValueError, TypeError, AttributeError):
            return make_claim()  # some other JSON file
    return make_claim(top1=_percent(top1), top5=_percent(top5), source=source or "")


def _percent(fraction: Any) -> float | None:
    return None if fraction is None else 100 * float(fraction)


def _evaluate(
    config: Config,
    model: nn.Module,
    dataset: Dataset,
    views: Views,
    claim: dict[str, Any],
    limit: int | None,
    outputs: Sequence[MakeOutput],
) -> Evaluation:
    spec = find_task(config.task)
    if views not in spec.views:
        able = " and ".join(task.name for task in tasks().values() if views in task.views)
        raise InputError(f"views {views!r} are for {able}; {spec.views_hint or 'leave them out'}")
    task = make_task(config, model, dataset.num_classes)
    written = tuple(make(dataset) for make in outputs)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    with make_trainer(config.train, callbacks=list(written), **options) as trainer:
        (metrics,) = trainer.validate(task, Loaders(dataset, config, views, limit), verbose=False)
    measured = {name: float(value) for name, value in metrics.items()}
    # Published results are those of one crop.
    shown = about(claim, config, task.counted) if views == "centre" and limit is None else make_claim()
    return Evaluation(config.data["name"], measured, task.counted, shown, task, dataset, written)
