"""Recipe and flags -> configuration, and back to YAML."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser

from switchnorm.data import DATASETS
from switchnorm.errors import InputError, unknown
from switchnorm.training.config import Config, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig, check

#: Sections of the configuration whose constructor is their schema.
SECTIONS = {"model": ModelConfig, "train": TrainConfig, "optimizer": OptimizerConfig, "schedule": ScheduleConfig}

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

    Args:
        recipe: a YAML file.
        flags: "--key", "value" or "--key=value" with the keys of the configuration ("train.epochs") or of `SHORT`.

    Raises:
        InputError: an unknown key, with the nearest valid one, or a value of the wrong type or out of range.
    """
    content = _read_yaml(recipe)
    flags = _long(flags)
    parser = _parser(_dataset_name(content, flags, recipe))
    keys = [key for key in parser.get_defaults().keys() if key != "config"]  # noqa: SIM118, not a dict
    for key in _leaves(content):
        if key not in keys:
            raise unknown(f"key in {recipe.name}", key, keys)
    for flag in flags:
        if flag.startswith("--") and flag[2:].partition("=")[0] not in keys:
            raise unknown("flag", flag.partition("=")[0], [f"--{key}" for key in (*SHORT, *keys)])
    try:
        namespace = parser.parse_args(["--config", str(recipe), *flags])
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise InputError(_one_line(error)) from error
    values = namespace.as_dict()
    del values["config"]
    return check(Config(**{key: SECTIONS[key](**value) if key in SECTIONS else value for key, value in values.items()}))


def to_yaml(config: Config) -> str:
    """The configuration as a recipe that `read_config` turns into the same configuration."""
    return yaml.safe_dump(asdict(config), sort_keys=False)


def _parser(dataset: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--task", type=Literal["classification"], default="classification")
    parser.add_argument("--seed", type=int, default=0)
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)
    parser.add_argument("--data.name", type=str, default=dataset)
    parser.add_class_arguments(DATASETS[dataset], "data")
    return parser


def _dataset_name(content: dict[str, Any], flags: Sequence[str], recipe: Path) -> str:
    data = content.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    for flag, value in itertools.pairwise([*flags, ""]):
        key, equals, attached = flag.partition("=")
        if key == "--data.name":
            name = attached if equals else value
    if name is None:
        raise InputError(f"{recipe.name} names no dataset; add data.name, one of {', '.join(DATASETS)}")
    if str(name) not in DATASETS:
        raise unknown("dataset", str(name), DATASETS)
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


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
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
