"""What a run calls its classes, and by what it knows its data: entries of run.json and of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from switchnorm.classes import Classes, classes_in, same
from switchnorm.data import Dataset, SegmentationDataset
from switchnorm.data.segmentation.class_names import code_of
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.text import canonical

if TYPE_CHECKING:  # its room imports torch
    from switchnorm.weights import CheckpointFile


def classes_of(dataset: Dataset) -> Classes:
    """The classes of a dataset that is here, and the colours that it shows them in."""
    colors = dataset.class_colors if isinstance(dataset, SegmentationDataset) else None
    codes = None if colors is None else tuple(map(code_of, colors))
    return Classes(tuple(map(canonical, dataset.classes)), codes)


def record_of(dataset: Dataset) -> dict[str, Any]:
    """What run.json keeps of the data that a run begins with: `classes`, `class_colors` and `data`."""
    return {**classes_of(dataset).entries(), "data": dataset.fingerprint()}


def recorded_classes(run: RunFolder) -> Classes | None:
    """The classes in a run's record; None for a run from before they were kept.

    Raises:
        InputError: run.json is damaged.
    """
    return classes_in(run.record(), str(run.record_file))


def run_classes(run: RunFolder, checkpoint: CheckpointFile | None = None) -> Classes | None:
    """The classes of a run, or of one of its checkpoints; None where neither says them.

    Raises:
        InputError: the two disagree, or a file is damaged.
    """
    recorded = recorded_classes(run)
    own = None if checkpoint is None else checkpoint.classes
    if own is None or recorded is None:
        return recorded if own is None else own
    if not same(own.names, recorded.names):
        raise InputError(
            f"{run.record_file} and the checkpoint name other classes ({_few(recorded)} and {_few(own)}); "
            "the file of another run has taken the place of one of them"
        )
    return own


def class_notes(dataset: Dataset, classes: Classes | None, source: str) -> tuple[str, ...]:
    """What is to be said about the classes of data that a network was not trained on here, a line each.

    Args:
        dataset: the data, with the classes of the network where these are known.
        classes: of the network.
        source: what holds the network.
    """
    if classes is not None or dataset.fixed_classes:
        return tuple(filter(None, (dataset.mapping(),)))
    return (f"{source} names no classes: that they have the order of this data is taken on trust",)


def _few(classes: Classes) -> str:
    return f"{len(classes.names)}, the first {classes.names[0]!r}"
