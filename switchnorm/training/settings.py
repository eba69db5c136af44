"""What a run was trained with, which its checkpoints keep: config.yaml may have been edited since."""

from __future__ import annotations

from typing import Any

from switchnorm.config.claim import computed_keys
from switchnorm.config.keys import flatten
from switchnorm.config.recipe import OPEN
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import tasks
from switchnorm.data import dataset_class
from switchnorm.errors import InputError

#: The checkpoint's key.
KEY = "settings"

#: What may change while a run goes on: the data, and how much of it a step and an epoch take.
_ADJUSTABLE = ("train.batch_size", "train.epoch_steps", "train.epochs", "train.iteration_size", "train.samples_per_gpu")


def settings_of(config: Config) -> dict[str, Any]:
    """The keys that decide what is trained, with their values; not where and how it is computed."""
    places = (f"data.{option}" for option in dataset_class(config.data["name"]).places)
    left_out = {*computed_keys(config.task), *places} - {"seed"}
    sections = tuple(f"{name}." for name in ("claim", *tasks()) if name != config.task)
    # Options are values though they be mappings, of which a key more is another value.
    settings = flatten(config.content(), {*OPEN, *(f"data.{option}" for option in config.data)})
    return {key: value for key, value in settings if key not in left_out and not key.startswith(sections)}


def changed_settings(saved: Any, config: Config, source: str, *, allowed: bool) -> list[str]:
    """Which keys of a configuration are not what a run was trained with, each as "train.batch_size 24 -> 12".

    Args:
        saved: `settings_of` what a checkpoint was trained with, as it was read; None where it does not say it.
        config: of the run, as it is now.
        source: what to call the checkpoint in an error.
        allowed: whether the keys that may change may have changed.

    Raises:
        InputError: a key has changed that may not.
    """
    if saved is None:
        return []
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        raise InputError(f"{source} is damaged: expected keys of the configuration as {KEY}")
    now = settings_of(config)
    # A key that only one of them knows is another version's.
    differing = [key for key in sorted(saved.keys() & now.keys()) if saved[key] != now[key]]
    for key in differing:
        adjustable = key in _ADJUSTABLE or (key.startswith("data.") and key != "data.name")
        if adjustable and allowed:
            continue
        what = f"{key} is {now[key]!r:.200} in config.yaml, and the run was trained with {saved[key]!r:.200}"
        way = "go on with this one by --data-changed" if adjustable else "begin another run, with train.warm_start"
        raise InputError(f"{what}; put that back, or {way}")
    return [f"{key} {saved[key]!r:.200} -> {now[key]!r:.200}" for key in differing]
