"""From the configuration to the network and the dataset, without anything that trains."""

from __future__ import annotations

from typing import Any

from torch import nn

from switchnorm.classes import Classes
from switchnorm.config.schema import Config
from switchnorm.data import Dataset, create_dataset
from switchnorm.errors import InputError
from switchnorm.models import create_model


def make_network(config: Config, num_classes: int | None) -> nn.Module:
    """The freshly initialised network of a configuration, as it is without the settings of training.

    Args:
        config: of a run.
        num_classes: of the dataset; None, where that is unknown, keeps the network's default.

    Raises:
        InputError: an unknown model, norm or option.
    """
    wanted = config.model
    for key in ("name", "norm", "norms", "conv", "num_classes"):
        if key in wanted.options:
            known = "the dataset's" if key == "num_classes" else f"model.{key}"
            raise InputError(f"model.options.{key} is no option of a network; it is {known}")
    return create_model(
        wanted.name,
        norm=wanted.norm,
        norms=wanted.norms,
        conv=wanted.conv,
        num_classes=num_classes,
        **network_options(config),
    )


def network_options(config: Config) -> dict[str, Any]:
    """The options of a configuration's network, with the one for pictures of other bands than three."""
    bands = config.data.get("bands")
    channels = {} if bands is None or len(bands) == 3 else {"in_channels": len(bands)}
    return {**channels, **config.model.options}


def dataset_of(config: Config, classes: Classes | None) -> Dataset:
    """The dataset of a run, with the classes that the run knows, if it does; nothing is read for these.

    Raises:
        InputError: as `create_dataset` and `Dataset.with_classes`.
    """
    dataset = create_dataset(**config.data)
    return dataset if classes is None else dataset.with_classes(*classes)
