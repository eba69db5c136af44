"""What a run was trained with, and how that was computed, which its checkpoints keep: both may be others by now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from switchnorm.config.deciding import COMPUTATION, deciding
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.processes import world_size
from switchnorm.training.network import device_kind

#: The checkpoint's keys.
KEY, COMPUTED = "settings", "computed"

#: What a run is called, and which modules it needs: not what it trains.
_NAMED = ("label", "plugins")

#: What may change while a run goes on: the data, and how much of it a step and an epoch take.
_ADJUSTABLE = ("train.batch_size", "train.epoch_steps", "train.epochs", "train.iteration_size", "train.samples_per_gpu")


def settings_of(config: Config) -> dict[str, Any]:
    """The keys that decide what is trained, with their values; not how it is computed, see `computation_of`."""
    return {key: value for key, value in deciding(config).items() if key not in (*COMPUTATION, *_NAMED)}


def computation_of(config: Config) -> dict[str, Any]:
    """How a run is computed here: the keys that say it, with the device that there is, and the number of processes."""
    keys = (key.removeprefix("train.") for key in COMPUTATION)
    return {
        "processes": world_size(),
        **{key: getattr(config.train, key) for key in keys},
        "device": device_kind(config),
    }


def computation_changes(kept: Mapping[str, Any], config: Config) -> list[str]:
    """What of a run is computed otherwise here, each as "precision 32 -> bf16".

    Args:
        kept: `computation_of` the run when its checkpoint was written, as far as the checkpoint says it.
        config: of the run, as it is now.
    """
    now = computation_of(config)
    return [f"{key} {kept[key]!s:.40} -> {now[key]}" for key in now if key in kept and kept[key] != now[key]]


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
