"""Looking at batches: the first of a loader; and all, of a dataset of somebody's own that has nothing else."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from switchnorm.data import Dataset
from switchnorm.data.files.surveyed import Facts, Remark
from switchnorm.data.loaders.file_batches import FileBatches, TrainingFileBatches
from switchnorm.data.loaders.loader import Loader
from switchnorm.errors import InputError
from switchnorm.survey.summary import Summary

#: Pictures of a batch that is looked at.
_SAMPLES = 16


def first_batch(loader: Loader) -> Any:
    """The first batch, read in this process without drawing random numbers of the program; None if there is none.

    The loader is not used again.

    Raises:
        InputError: what of it cannot be read.
    """
    if isinstance(loader, FileBatches | TrainingFileBatches):
        loader.workers = 0  # for one batch no process is worth starting
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some were skipped is said by those who look at samples
        return next(iter(loader), None)


def look_at_batches(dataset: Dataset, seed: int, limit: int | None) -> Iterator[tuple[Summary, Iterator[Facts]]]:
    """For each split that has batches its summary, still empty, and what is seen of each sample as the network gets it.

    Args:
        dataset: with loaders of its own.
        seed: of the training batches.
        limit: samples of each split; None for one pass over all.
    """
    train = min(_SAMPLES, dataset.train_size)
    splits = {
        "train": lambda: dataset.train_batches(batch_size=train, seed=seed, epochs=1),
        "test": lambda: dataset.test_batches(batch_size=_SAMPLES),
    }
    for name, make in splits.items():
        try:
            loader = make()
        except InputError:  # there is no such split
            continue
        total = dataset.train_size if name == "train" else loader.total
        some = total if limit is None else min(limit, total)
        yield Summary(name, total), itertools.islice(_facts(loader, dataset.num_classes), some)


def _facts(batches: Iterable[Any], classes: int) -> Iterator[Facts]:
    for batch in batches:
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and all(map(torch.is_tensor, batch))):
            raise InputError(
                f"what its loader yields is no pair of images and labels but {type(batch).__name__}; a dataset like "
                "this is looked at by its own `surveyed`"
            )
        for image, label in zip(*batch, strict=True):
            yield _of_one(image, label, classes)


def _of_one(image: torch.Tensor, label: torch.Tensor, classes: int) -> Facts:
    values = image.double().flatten(1)
    found, counts = label.reshape(-1).unique(return_counts=True)
    remarks = []
    if not values.isfinite().all():
        remarks.append(Remark("hold values that are no finite numbers", wrong=True))
    beyond = [number for number in found.tolist() if not 0 <= number < classes and label.dim() == 0]
    if beyond:
        remarks.append(Remark("have a label beyond the classes", str(beyond[0]), wrong=True))
    return Facts(
        remarks=remarks,
        size=(image.shape[-2], image.shape[-1]),
        pixels=values.shape[1],
        sums=tuple(values.sum(1).tolist()),
        squares=tuple(values.square().sum(1).tolist()),
        counts=dict(zip(found.tolist(), counts.tolist(), strict=True)),
    )
