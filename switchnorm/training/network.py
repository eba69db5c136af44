"""From the configuration to the network and the dataset, without anything that trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from switchnorm.classes import Classes
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task
from switchnorm.data import Dataset, create_dataset
from switchnorm.errors import InputError
from switchnorm.models import create_model, task_of
from switchnorm.processes import world_size


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


def check_task(config: Config) -> None:
    """Raise `InputError` for a network that is for another task than the dataset."""
    network_task = task_of(config.model.name)
    if network_task != config.task:
        make_network(config, None)  # raises for an unknown name, with the nearest known one
        example = find_task(config.task).example
        raise InputError(
            f"model {config.model.name!r} is for {network_task}, and {config.data['name']!r} for {config.task}; "
            f"take a model such as {example!r}"
        )


def device_kind(config: Config) -> str:
    """The kind of device that a run trains on here: cpu, cuda or mps."""
    device = config.train.device
    return next((kind for kind, here in _available().items() if here), "cpu") if device == "auto" else device


def _available() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def check_device(config: Config) -> None:
    """Raise `InputError` for a device that is not available, or an option that it does not support."""
    device, available = config.train.device, _available()
    if not available.get(device, True):
        raise InputError(f"train.device {device!r} is not available here; choose 'cpu' or 'auto'")
    # Where Lightning would use bf16 without saying so.
    if config.train.precision == "16" and device_kind(config) == "cpu":
        raise InputError("train.precision 16 needs a GPU, and the run is on the CPU; the nearest there is bf16")
    if config.train.cuda_graph and not available["cuda"]:
        raise InputError("train.cuda_graph needs a CUDA device, and there is none here; set it to false")
    if config.train.cuda_graph and world_size() > 1:
        raise InputError(f"train.cuda_graph works in one process, not in {world_size()}; set it to false")
