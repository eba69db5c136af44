"""Recipe and flags -> configuration, and back to YAML."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from switchnorm.data import dataset_class, dataset_classes
from switchnorm.errors import InputError, unknown
from switchnorm.training.claim import is_changed
from switchnorm.training.config import (
    ClaimConfig,
    Config,
    GroupConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    SegmentationConfig,
    Task,
    TrainConfig,
)
from switchnorm.training.limits import check

#: Sections of the configuration whose constructor is their schema.
SECTIONS = {
    "model": ModelConfig,
    "train": TrainConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "segmentation": SegmentationConfig,
    "claim": ClaimConfig,
}

#: Keys that hold keys of their own, which others know.
OPEN = ("model.options",)

#: Short flags, and the keys that they stand for.
SHORT = {
    "model": "model.name",
    "norm": "model.norm",
    "conv": "model.conv",
    "data": "data.name",
    "samples_per_gpu": "train.samples_per_gpu",
    "batch_size": "train.batch_size",
    "epochs": "train.epochs",
    "precision": "train.precision",
    "device": "train.device",
    "lr": "optimizer.lr",
}


def read_config(recipe: Path, flags: Sequence[str] = ()) -> Config:
    """The configuration that a recipe and flags make together; flags win.

    A claim is about the recipe as it is written: flags that change what is trained take it away.

    Args:
        recipe: a YAML file.
        flags: "--key", "value" or "--key=value" with the keys of the configuration ("train.epochs") or of `SHORT`.

    Raises:
        InputError: an unknown key, with the nearest valid one, or a value of the wrong type or out of range.
    """
    content = _read_yaml(recipe)
    flags = _long(flags)
    parser = _parser(_dataset_name(content, flags, recipe.name))
    keys = _keys(parser)
    for key in _leaves(content, keys):
        if not _is_key(key, keys):
            raise unknown(f"key in {recipe.name}", key, keys)
    config = check(_parse(parser, ["--config", str(recipe)], flags))
    if config.claim != ClaimConfig() and flags:
        written = _written(content, recipe)
        if written is None or is_changed(written, config):
            given = {flag.partition("=")[0] for flag in flags}
            kept = {key: value for key, value in asdict(config.claim).items() if f"--claim.{key}" in given}
            config = replace(config, claim=ClaimConfig(**kept))
    return config


def evaluation_config(flags: Sequence[str]) -> Config:
    """The configuration that flags alone make, for evaluating: a model, a dataset, and how to compute.

    Raises:
        InputError: as `read_config`.
    """
    flags = _long(flags)
    dataset = _dataset_name({}, flags, "the command line")
    pictures = {"classification": 256, "segmentation": 8}[dataset_class(dataset).task]
    return check(_parse(_parser(dataset), [], ["--train.epochs=1", f"--train.batch_size={pictures}", *flags]))


def to_yaml(config: Config) -> str:
    """The configuration as a recipe that `read_config` turns into the same configuration."""
    return yaml.safe_dump(asdict(config), sort_keys=False)


def _parser(dataset: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--task", type=Task, default=dataset_class(dataset).task)
    parser.add_argument("--seed", type=int, default=0)
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)
    parser.add_argument("--data.name", type=str, default=dataset)
    parser.add_class_arguments(dataset_class(dataset), "data")
    return parser


def _parse(parser: ArgumentParser, recipe: list[str], flags: list[str]) -> Config:
    keys = _keys(parser)
    for flag in flags:
        key = flag.partition("=")[0]
        if flag.startswith("--") and not _is_key(key[2:].removesuffix("+"), keys):
            raise unknown("flag", key, [f"--{key}" for key in (*SHORT, *keys)])
    try:
        values = parser.parse_args([*recipe, *flags]).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise InputError(_one_line(error)) from error
    del values["config"]
    data = values["data"]["name"]
    if values["task"] != dataset_class(data).task:
        raise InputError(f"task {values['task']!r} does not fit {data!r}; the nearest is {dataset_class(data).task!r}")
    values["optimizer"]["groups"] = [GroupConfig(**group) for group in values["optimizer"]["groups"]]
    return Config(**{key: SECTIONS[key](**value) if key in SECTIONS else value for key, value in values.items()})


def _written(content: dict[str, Any], recipe: Path) -> Config | None:
    """The configuration of a recipe without flags; None where it needs them."""
    try:
        return _parse(_parser(_dataset_name(content, (), recipe.name)), ["--config", str(recipe)], [])
    except InputError:
        return None


def _keys(parser: ArgumentParser) -> list[str]:
    return [key for key in parser.get_defaults().keys() if key != "config"]  # noqa: SIM118, not a dict


def _is_key(key: str, keys: Sequence[str]) -> bool:
    return key in keys or key.startswith(tuple(f"{name}." for name in OPEN))


def _dataset_name(content: dict[str, Any], flags: Sequence[str], where: str) -> str:
    data = content.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    for flag, value in itertools.pairwise([*flags, ""]):
        key, equals, attached = flag.partition("=")
        if key == "--data.name":
            name = attached if equals else value
    if name is None:
        raise InputError(f"{where} names no dataset; add data.name, one of {', '.join(dataset_classes())}")
    dataset_class(str(name))  # which knows the nearest name to one that is none
    return str(name)


def _long(flags: Sequence[str]) -> list[str]:
    """Spell out short flags; "-" within a flag is "_"."""
    spelled = []
    for flag in flags:
        key, equals, value = flag.partition("=")
        if key.startswith("--"):
            key = key[2:].replace("-", "_")
            key = "--" + SHORT.get(key, key)
        spelled.append(key + equals + value)
    return spelled


def _leaves(content: dict[str, Any], keys: Sequence[str], prefix: str = "") -> Iterable[str]:
    for key, value in content.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in keys:
            yield from _leaves(value, keys, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _read_yaml(recipe: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{recipe} is no YAML file: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{recipe} is no recipe; expected keys such as 'model', 'data' and 'train'")
    return content


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = re.sub(r"^Parser key \"([^\"]+)\":", r"\1:", text)
    return re.sub(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", r"expected \1\2", text)
