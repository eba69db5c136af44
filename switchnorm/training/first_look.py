"""Looking at the data of a run before there is one."""

from __future__ import annotations

from dataclasses import replace

from switchnorm.config.schema import Config
from switchnorm.data import Dataset, TrainingLoader
from switchnorm.survey.batches import first_batch
from switchnorm.survey.quick import quick_look
from switchnorm.training.build import training_batches

#: Pictures that are read through their loaders.
_PICTURES = 4


def first_look(config: Config, dataset: Dataset) -> tuple[str, ...]:
    """Look at some samples of training and validation and at all of the first step, and read a few by their loaders.

    Every process looks at the same ones, so that all end alike. No random number of the run is drawn.

    Args:
        config: of the run.
        dataset: of the run, prepared.

    Returns:
        What is unusual, a line each.

    Raises:
        InputError: data at which training would stop, as far as this shows it.
    """
    lines = quick_look(dataset, _begun(config, dataset).upcoming())
    few = replace(config, train=replace(config.train, batch_size=min(config.train.batch_size, _PICTURES)))
    first_batch(_begun(few, dataset))
    first_batch(dataset.test_batches(batch_size=min(config.train.test_batch, _PICTURES)))
    return lines


def _begun(config: Config, dataset: Dataset) -> TrainingLoader:
    """The training batches from the run's first epoch on."""
    batches = training_batches(config, dataset)
    batches.load_state_dict({"epoch": config.train.start_epoch, "position": 0})
    return batches
