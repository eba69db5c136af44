"""Loss and scores on the test set: of a run's checkpoint, or of any weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from switchnorm.config.claim import about, make_claim
from switchnorm.config.schema import Config
from switchnorm.config.statistics import EvaluationStatistics, parse_statistics
from switchnorm.config.task_spec import find_task, tasks
from switchnorm.data import Dataset, ImageNet, Share, Views
from switchnorm.data.datasets.folder import SHORT_SIDE
from switchnorm.data.detection import Coco
from switchnorm.errors import InputError
from switchnorm.processes import world_size
from switchnorm.runs.classes import class_notes, run_classes
from switchnorm.runs.folder import RunFolder
from switchnorm.surgery.batch import batch_layers, check_support
from switchnorm.surgery.statistics import tracking_layers
from switchnorm.tasks.output import MakeOutput, Output
from switchnorm.tasks.task import Task
from switchnorm.text import decode, from_json
from switchnorm.training.build import make_task, prepare_evaluation, training_batches
from switchnorm.training.callbacks.progress import Progress
from switchnorm.training.callbacks.statistics import ChosenStatistics
from switchnorm.training.loaders import Loaders
from switchnorm.training.pictures import as_expected
from switchnorm.training.trainer import make_trainer
from switchnorm.weights import load_published, load_state, read_checkpoint

#: What weights claim, by the keys of a configuration's claim.
_CLAIMED = ("top1", "top5", "box_ap", "mask_ap")
#: How many pictures COCO's validation set of 2017 has.
_COCO_2017 = 5000


@dataclass(frozen=True)
class Evaluation:
    """How well a network does on a test set.

    Args:
        data: the dataset's name.
        metrics: "val_loss" and what the task measures, in [0, 1].
        pictures: number of test pictures.
        claim: what is reported elsewhere, as in the configuration; nothing where this was measured otherwise.
        task: the network with its loss and metrics, and the details that it keeps of this validation.
        dataset: whose test set it was.
        statistics: what layers with batch statistics normalized by.
        outputs: what is still to be written about it, by the first process.
        expected: which pictures the network expects, in words; "" where nothing was set for it.
        notes: how the classes of the data became those of the network, a line each.
    """

    data: str
    metrics: dict[str, float]
    pictures: int
    claim: dict[str, Any]
    task: Task
    dataset: Dataset
    statistics: EvaluationStatistics
    outputs: tuple[Output, ...] = ()
    expected: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _How:
    """How to evaluate; as the arguments of `evaluate`."""

    views: Views
    statistics: EvaluationStatistics
    limit: int | None
    outputs: tuple[MakeOutput, ...]
    quiet: bool


def evaluate(
    run: RunFolder,
    checkpoint: Path,
    views: Views = "centre",
    config: Config | None = None,
    statistics: str = "running",
    *,
    limit: int | None = None,
    outputs: Sequence[MakeOutput] = (),
    quiet: bool = True,
) -> Evaluation:
    """Evaluate a checkpoint of a run; where the run averaged its weights, that is the average.

    Args:
        run: the run.
        checkpoint: a file.
        views: of each picture; the probabilities are averaged over them.
        config: how to compute and where the data lies, if not as the run's own configuration says.
        statistics: what layers with batch statistics normalize by: "running", the checkpoint's running statistics;
            "batch", those of each evaluated batch (in segmentation, of its pictures that have one shape), in ghost
            batches where the run has these; "calibrate:N", running statistics averaged anew over the run's first N
            training batches. Nothing is written.
        limit: how many test pictures, the first; None for all.
        outputs: make what is written about the evaluation besides its scores.
        quiet: whether to show no progress.

    Raises:
        InputError: no such checkpoint, one of another network, views that the dataset does not have, or other
            statistics, or such as the network does not have.
    """
    how = _How(views, parse_statistics(statistics), limit, tuple(outputs), quiet)
    config = config or run.config()
    file = read_checkpoint(checkpoint)
    classes = run_classes(run, file)
    model, dataset = prepare_evaluation(config, classes)
    load_state(model, file.state, f"checkpoint {str(checkpoint)!r}")
    # A claim is about the end of a training.
    ended = run.finished() and checkpoint in (run.last, run.best)
    found = _evaluate(config, model, dataset, how, config.claim if ended else make_claim())
    return replace(found, notes=class_notes(dataset, classes, f"run {str(run.path)!r}"))


def evaluate_weights(
    weights: Sequence[Path],
    config: Config,
    views: Views = "centre",
    statistics: str = "running",
    *,
    limit: int | None = None,
    outputs: Sequence[MakeOutput] = (),
    quiet: bool = True,
) -> Evaluation:
    """Evaluate the weights in a file, in a published layout or in this library's.

    Args:
        weights: the file, or the two of a segmentation network's encoder and decoder.
        config: which model and dataset, and how to compute; nothing else of it matters.
        views, limit, outputs, quiet: as `evaluate`.
        statistics: as `evaluate`; the training batches are those of `config`.

    Raises:
        InputError: as `evaluate`.
    """
    how = _How(views, parse_statistics(statistics), limit, tuple(outputs), quiet)
    config, expected = as_expected(config, pretrained=True)
    classes = read_checkpoint(weights[0]).classes
    model, dataset = prepare_evaluation(config, classes)
    load_published(model, *weights)
    claim = claim_of(weights[0], config.model.name) if _is_benchmark(dataset) else make_claim()
    notes = class_notes(dataset, classes, f"checkpoint {str(weights[0])!r}")
    return replace(_evaluate(config, model, dataset, how, claim), expected=expected, notes=notes)


def _is_benchmark(dataset: Dataset) -> bool:
    """Whether claims of published weights are about this data: ImageNet's or COCO's pictures in their usual size."""
    if isinstance(dataset, Coco):
        usual = (dataset.test_side, dataset.longest) == (Coco.test_side, Coco.longest)
        return usual and dataset.split == "val" and dataset.test_size == _COCO_2017
    return isinstance(dataset, ImageNet) and (dataset.size, dataset.short_side) == (ImageNet.size, SHORT_SIDE)


def claim_of(weights: Path, network: str) -> dict[str, Any]:
    """What a checkpoint's metadata, or the card beside it, claims; empty where there is neither, or of another network.

    Raises:
        InputError: no readable checkpoint.
    """
    metadata = read_checkpoint(weights).metadata
    claimed = {key: getattr(metadata, key) for key in _CLAIMED}
    source, own = metadata.source, metadata.network
    card = weights.with_suffix(".json")
    try:
        if all(value is None for value in claimed.values()) and card.is_file():
            entries = from_json(decode(card.read_bytes(), str(card)), str(card))
            claimed = {key: entries.get(key) for key in _CLAIMED}
            source, own = (entries.get(name) for name in ("source", "network"))
        if own not in (None, network):
            return make_claim()
        return {**make_claim(str(source or "")), **{key: _percent(value) for key, value in claimed.items()}}
    except (ValueError, TypeError, AttributeError):
        return make_claim()  # some other JSON file


def _percent(fraction: Any) -> float | None:
    return None if fraction is None else 100 * float(fraction)


def _evaluate(config: Config, model: nn.Module, dataset: Dataset, how: _How, claim: dict[str, Any]) -> Evaluation:
    spec, by = find_task(config.task), how.statistics
    if how.views not in spec.views:
        able = " and ".join(task.name for task in tasks().values() if how.views in task.views)
        raise InputError(f"views {how.views!r} are for {able}; {spec.views_hint or 'leave them out'}")
    _check_statistics(by, config, model, dataset)
    task = make_task(config, model, dataset.num_classes)
    outputs = tuple(make(dataset) for make in how.outputs)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    progress = [] if how.quiet else [Progress(spec.score.column)]
    with make_trainer(config.train, callbacks=[ChosenStatistics(by), *outputs, *progress], **options) as trainer:
        try:
            (metrics,) = trainer.validate(task, Loaders(dataset, config, how.views, how.limit), verbose=False)
        except ValueError as error:  # an `InputError`, or how other libraries' layers refuse a batch
            if by.kind != "batch":
                raise
            reason = str(error).partition("\n")[0]
            hint = (
                "choose another batch size, of which no batch or part of one holds a single value, or other statistics"
            )
            raise InputError(f"statistics 'batch' are impossible: {reason}; {hint}") from error
    measured = {name: float(value) for name, value in metrics.items()}
    # Published results are those of one crop, of all pictures, and of a checkpoint as it is.
    comparable = (
        how.views == "centre" and by.kind == "running" and (how.limit is None or dataset.benchmark_size is not None)
    )
    shown = about(claim, config, task.counted) if comparable else make_claim()
    return Evaluation(config.data["name"], measured, task.counted, shown, task, dataset, by, outputs)


def _check_statistics(by: EvaluationStatistics, config: Config, model: nn.Module, dataset: Dataset) -> None:
    """Raise `InputError` for statistics that a network does not have, or that take data which is not there."""
    if by.kind == "running":
        return
    check_support(model, "calibrate")
    layers = [layer for _, layer in batch_layers(model)]
    if not layers:
        raise InputError(f"{type(model).__name__} has no batch statistics; leave statistics out")
    if by.kind == "calibrate":
        if not tracking_layers(model):
            raise InputError(f"{type(model).__name__} keeps no running statistics; leave statistics out")
        training_batches(config, dataset, Share(world=world_size()))
    elif world_size() > 1:
        # Each would normalize by its share of a batch alone, or wait for others that have one picture less.
        raise InputError("statistics 'batch' take one process; start it without torchrun")
