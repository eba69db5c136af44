"""Keys of the configuration: dotted ones of nested mappings, and the flags that set them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from switchnorm.errors import InputError

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

#: Sections whose keys are not known here: network and optimizer check their parts and options themselves.
OPEN = ("model.norms", "model.options", "optimizer.options")


def flatten(nested: Mapping[str, Any], whole: Container[str] = (), prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping under dotted keys: `{"a": {"b": 1}}` yields `("a.b", 1)`.

    Args:
        nested: the mapping.
        whole: dotted keys whose values are leaves even where they are mappings.
        prefix: before every key.
    """
    for key, value in nested.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and dotted not in whole:
            yield from flatten(value, whole, f"{dotted}.")
        else:
            yield dotted, value


def check_once(flags: Iterable[str]) -> None:
    """Raise `InputError` for a flag that is given twice: the second would win without a word."""
    given: dict[str, str] = {}
    for flag in (each.partition("=")[0] for each in flags if each.startswith("--")):
        key = flag[2:].replace("-", "_")
        key = SHORT.get(key, key)
        if key in given and not key.endswith("+"):
            same = f"{flag} is given twice" if flag == given[key] else f"{given[key]} and {flag} say the same"
            raise InputError(f"{same}; leave one of them out")
        given[key] = flag
