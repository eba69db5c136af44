"""Looking at the data of a run before there is one."""

from __future__ import annotations

import warnings

import torch

from switchnorm.config.schema import Config
from switchnorm.data import Dataset
from switchnorm.data.loaders.loader import Loader
from switchnorm.survey.quick import quick_look
from switchnorm.training.build import training_batches

#: Test pictures that are read through their loader.
_TEST_PICTURES = 4


def first_look(config: Config, dataset: Dataset) -> tuple[str, ...]:
    """Look at some samples of training and validation, and read the first batch of each.

    The first training batch is the one of the first step, whatever the number of processes. No random number of the run
    is drawn.

    Args:
        config: of the run.
        dataset: of the run, prepared.

    Returns:
        What is unusual, a line each.

    Raises:
        InputError: data at which training would stop, as far as this shows it.
    """
    lines = quick_look(dataset)
    train = training_batches(config, dataset)
    train.load_state_dict({"epoch": config.train.start_epoch, "position": 0})
    _read_one(train)
    _read_one(dataset.test_batches(batch_size=min(config.train.test_batch, _TEST_PICTURES)))
    return lines


def _read_one(loader: Loader) -> None:
    if hasattr(loader, "workers"):
        loader.workers = 0  # for one batch no process is worth starting
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        next(iter(loader), None)
