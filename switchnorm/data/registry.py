"""Datasets by name: those of this library, and those that somebody registers."""

from __future__ import annotations

import inspect
import re
from typing import Any

from switchnorm.data.datasets.dataset import Dataset
from switchnorm.errors import InputError, unknown

_CLASSES: dict[str, type[Dataset]] = {}


def register(name: str, cls: type[Dataset]) -> None:
    """Make a dataset known by name, so that recipes and flags can name it.

    Args:
        name: small letters, digits and underscores, a letter first.
        cls: the class; its constructor is the schema of the options.

    Raises:
        InputError: a name that is malformed or taken, or a class that is no whole `Dataset`.
    """
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_]*", name):
        near = re.sub("[^a-z0-9]+", "_", str(name).lower()).strip("_0123456789") or "photos"
        raise InputError(
            f"dataset name {name!r} must be small letters, digits and _, a letter first; the nearest is {near!r}"
        )
    if name in _CLASSES:
        taken = f"{_CLASSES[name].__module__}.{_CLASSES[name].__qualname__}"
        raise InputError(f"dataset name {name!r} is taken by {taken}; choose another, such as 'my_{name}'")
    if not (isinstance(cls, type) and issubclass(cls, Dataset)):
        raise InputError(f"dataset {name!r} must be a class derived from switchnorm.data.Dataset, got {cls!r}")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise InputError(f"dataset {name!r} must define all that a Dataset does; {cls.__name__} lacks {missing}")
    if "name" in inspect.signature(cls).parameters:
        raise InputError(
            f"dataset {name!r} has an option 'name', which is the dataset's own; call the option otherwise"
        )
    _CLASSES[name] = cls


def dataset_classes() -> dict[str, type[Dataset]]:
    """Every dataset's class by name, in the order of their registration."""
    return dict(_CLASSES)


def dataset_class(name: str) -> type[Dataset]:
    """The class of the dataset of that name.

    Raises:
        InputError: no dataset has that name.
    """
    if name not in _CLASSES:
        raise unknown("dataset", name, _CLASSES)
    return _CLASSES[name]


def create_dataset(name: str, **options: Any) -> Dataset:
    """The dataset of that name; nothing is read yet.

    Args:
        name: as `dataset_classes` lists it.
        **options: what the dataset's constructor takes.

    Raises:
        InputError: no dataset has that name, or an option is out of range.
    """
    return dataset_class(name)(**options)
