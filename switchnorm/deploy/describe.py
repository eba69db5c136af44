"""The description of a run's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from switchnorm.classes import Classes
from switchnorm.config.norms import spelled
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task
from switchnorm.data import Dataset, SegmentationDataset
from switchnorm.data.preparation import Preparation
from switchnorm.data.segmentation.class_names import code_of
from switchnorm.deploy.description import Description, rounded
from switchnorm.errors import InputError
from switchnorm.models import norm_of
from switchnorm.surgery import importance
from switchnorm.text import canonical
from switchnorm.training.network import network_options


def describe(
    config: Config,
    dataset: Dataset,
    model: nn.Module,
    *,
    classes: Classes | None = None,
    results: Mapping[str, float] | None = None,
    claim: Mapping[str, Any] | None = None,
    source: str = "",
) -> Description:
    """What a trained network is, and how evaluation uses it; no data is read.

    Args:
        config: of the run.
        dataset: of the run, with the classes that the network tells apart.
        model: the network, with its weights.
        classes: what these are called, and their colours; None for the dataset's.
        results: what evaluation measured, by metric.
        claim: what others report for this training.
        source: what the network is, in words.
    """
    wanted = config.model
    norm = wanted.norm or norm_of(wanted.name)
    network = {
        "name": wanted.name,
        "norm": wanted.norm,
        "norms": dict(wanted.norms or {}),
        "conv": wanted.conv,
        "num_classes": dataset.num_classes,
        "options": network_options(config),
    }
    known = Classes(tuple(map(canonical, dataset.classes)), _colors(dataset)) if classes is None else classes
    return Description(
        task=config.task,
        classes=known.names,
        colors=known.colors,
        network={name: value for name, value in network.items() if value not in (None, "", {})},
        norm=None if norm is None else spelled(str(norm), wanted.norms or {}),
        layers=chosen(model),
        preparation=preparation_of(dataset),
        inference={name: getattr(config.own, name) for name in find_task(config.task).evaluated},
        numbers=_numbers(dataset),
        results=dict(results or {}),
        claim={key: value for key, value in (claim or {}).items() if value not in (None, "")},
        source=source,
    )


def chosen(model: nn.Module) -> dict[str, dict[str, dict[str, float]]]:
    """What each layer that mixes statistics chose, as `Description.layers`."""
    return rounded(
        {
            row.layer: {
                "mean": dict(zip(row.statistics, row.mean, strict=True)),
                "var": dict(zip(row.statistics, row.var, strict=True)),
            }
            for row in importance(model)
        }
    )


def preparation_of(dataset: Dataset) -> Preparation | None:
    """How the dataset shows pictures; None where it does not say it as data, or has another method `shown`."""
    for cls in type(dataset).__mro__:
        if "preparation" in vars(cls):
            break
        if "shown" in vars(cls):
            return None
    try:
        return dataset.preparation
    except InputError:
        return None


def _colors(dataset: Dataset) -> tuple[str, ...] | None:
    colors = dataset.class_colors if isinstance(dataset, SegmentationDataset) else None
    return None if colors is None else tuple(map(code_of, colors))


def _numbers(dataset: Dataset) -> tuple[int, ...]:
    """The numbers of written masks, as `Description.numbers`."""
    if not isinstance(dataset, SegmentationDataset):
        return ()
    numbering = dataset.numbering
    return (*numbering.classes, numbering.void)
