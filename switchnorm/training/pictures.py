"""Showing networks of torchvision and timm the pictures that their weights expect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from switchnorm.config.schema import Config
from switchnorm.data import Dataset, Folder, create_dataset, dataset_class
from switchnorm.models import pictures_of
from switchnorm.models.pictures import Pictures


def as_expected(config: Config, *, pretrained: bool = False) -> tuple[Config, str]:
    """A configuration in which all that its network expects of pictures is written down.

    It is for what begins: a run, or the evaluation of somebody's weights. Later the configuration itself says it, so
    that nothing depends on the version of another library.

    Args:
        config: of the run; what it sets stays.
        pretrained: whether the network gets weights besides those of `train.warm_start`.

    Returns:
        The configuration, the same where the network expects nothing or the dataset's pictures are its own affair, and
        what was set, in a line; "" for nothing.
    """
    pictures = pictures_of(config.model.name)
    if pictures is None:
        return config, ""
    data = dict(config.data)
    given = config.given if config.given is not None else frozenset(data)
    options = {key: value for key, value in data.items() if key != "name"}
    pretrained = pretrained or config.train.warm_start is not None
    chosen = dataset_class(data["name"]).options_for(pictures, options, given, pretrained=pretrained)
    changed = {key: value for key, value in chosen.items() if options.get(key) != value}
    if not changed:
        return config, ""
    written = replace(config, data={**data, **chosen})
    return written, f"pictures as {config.model.name} expects them: {_words(written.data, changed, pictures)}"


def as_found(config: Config, dataset: Dataset) -> Config:
    """A configuration in which what the data decided is written down, so that other data is read likewise later."""
    found = dataset.found_options()
    return replace(config, data={**config.data, **found}) if found else config


def _words(data: dict[str, Any], changed: dict[str, Any], pictures: Pictures) -> str:
    """What was set, as in "mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5, bicubic, 224 of 256"."""
    words = [
        f"{title} {' '.join(f'{value:g}' for value in changed[key])}"
        for key, title in (("mean", "mean"), ("std", "deviation"))
        if key in changed
    ]
    words += [changed["interpolation"]] if "interpolation" in changed else []
    if {"size", "crop", "resize"} & changed.keys():
        dataset = create_dataset(**data)
        assert isinstance(dataset, Folder)
        words.append(f"{dataset.size} of {dataset.short_side}")
        words += [pictures.remark] if pictures.remark else []
    return ", ".join(words)
