"""Reading the files of a run folder, so that whatever is wrong with one is a line that names it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from switchnorm import text
from switchnorm.errors import InputError
from switchnorm.text import from_json

#: The file by which a folder is known to be a run's.
CONFIG = "config.yaml"


def run_of(path: Path) -> Path | None:
    """The folder of the run that a path is, or is a checkpoint of; None for any other."""
    # os.path answers for names of any length, where Path raises.
    folder = path if os.path.isdir(path) else path.parent.parent
    return folder if os.path.isfile(folder / CONFIG) else None


def read_record(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file that is meant to hold `what`."""
    try:
        found = from_json(read_text(path), str(path))
    except InputError as error:
        raise InputError(f"{error}; expected {what}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: expected a JSON object, got {type(found).__name__}")
    return found


def read_provenance(path: Path) -> dict[str, Any]:
    """A run's record, of which every entry that is read anywhere has its type; others are as they are.

    Raises:
        InputError: no such file, a damaged one, or an entry of another type.
    """
    found = read_record(path, "the provenance of a run")
    for name, (fits, expected) in _ENTRIES.items():
        value = found.get(name)
        if value is not None and not fits(value):
            raise InputError(f"{path}: {name} is {value!r:.80}, expected {expected}")
    return found


def read_text(path: Path) -> str:
    """The whole of a text file."""
    try:
        return text.read_text(path, str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: a run folder holds config.yaml, run.json and metrics.csv") from error


def check_inside(run: Path, path: Path) -> None:
    """Raise `InputError` where a file of a run is a link out of it: a report would show what is no part of the run."""
    if not path.resolve().is_relative_to(run.resolve()):
        raise InputError(f"{path} is a link to {path.resolve()}, out of the run; copy the file into its place")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_stopped(value: Any) -> bool:
    """Whether it says how `train.patience` ended a run, see docs/design.md."""
    if not isinstance(value, Mapping):
        return False
    radius = value.get("radius")
    return all(_is_count(value.get(name)) for name in ("after_epochs", "patience")) and (
        radius is None or _is_number(radius)
    )


_NUMBER, _COUNT = (_is_number, "a number, 0 or more"), (_is_count, "a whole number, 0 or more")
_TEXT, _MAPPING = (_is_text, "text"), (_is_mapping, "entries by name")
_ENTRIES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("name", "command", "created", "status"), _TEXT),
    **dict.fromkeys(("seconds", "learning_rate", "images_per_second", "peak_memory_bytes"), _NUMBER),
    **dict.fromkeys(("test_pictures", "processes"), _COUNT),
    **dict.fromkeys(("result", "versions", "loggers", "warm_start", "normalizer", "diverged"), _MAPPING),
    "stopped": (_is_stopped, "after_epochs, patience and radius"),
    "continued": (lambda value: isinstance(value, list), "a list"),
}
