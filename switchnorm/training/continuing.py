"""Going on with a run: whether data and configuration are still what it was trained with, and what to do if not.

A checkpoint is a place in the run, counted in batches and steps. With other data, or another batch size, an epoch has
another number of them, and the same place another number. So the checkpoint is written anew, as of the beginning of an
epoch: what was trained stays, and learning rate, SSN's radius and the order of samples go on where that epoch begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from switchnorm.config.recipe import to_yaml
from switchnorm.config.schema import Config
from switchnorm.data import Dataset
from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.runs.data_changes import data_changes
from switchnorm.runs.folder import RunFolder
from switchnorm.training.build import steps_per_epoch, training_batches
from switchnorm.training.callbacks.checkpoints import AtomicCheckpointIO
from switchnorm.training.loaders import Loaders
from switchnorm.training.optimizer import effective_lr, make_optimizer
from switchnorm.training.settings import KEY, settings_of

#: How a run takes changes that are none of the configuration's.
_FLAG = "--data-changed"

#: All entries of a checkpoint of a training.
Checkpoint = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a checkpoint stands.

    Args:
        epochs: that were finished.
        steps: of the optimizer, in all epochs.
        position: how many batches of the next epoch were trained on.
    """

    epochs: int
    steps: int
    position: int


def place_of(checkpoint: Checkpoint) -> Place:
    """Where a checkpoint of an interrupted training stands."""
    loops = checkpoint["loops"]
    if loops is None:
        return Place(checkpoint["epoch"], checkpoint["global_step"], 0)
    epochs = loops["fit_loop"]["epoch_progress"]["current"]["processed"]
    loader = checkpoint.get(Loaders.__qualname__) or {"epoch": epochs, "position": 0}
    return Place(epochs, checkpoint["global_step"], loader["position"] if loader["epoch"] == epochs else 0)


def find_changes(
    run: RunFolder, checkpoint: Checkpoint | None, config: Config, dataset: Dataset, *, allowed: bool
) -> list[str]:
    """What differs from the data that the run was trained on, in phrases.

    Args:
        run: the run.
        checkpoint: that it goes on from; None where it has none.
        config: its configuration, as it is now.
        dataset: its data, as it is now, with the classes of the run.
        allowed: whether anything may differ.

    Raises:
        InputError: something does that may not, or run.json is damaged.
    """
    before = run.record().get("data")
    changes = [] if before is None else data_changes(before, dataset, str(run.record_file))
    if checkpoint is not None and not changes and None in (before, checkpoint.get(KEY)):
        changes += _other_steps(place_of(checkpoint), config, dataset)
    if changes and not allowed:
        raise InputError(
            f"the data of run {str(run.path)!r} is not what it was trained on: {'; '.join(changes)}; bring that back, "
            f"or go on with this by {_FLAG}"
        )
    return changes


def _other_steps(place: Place, config: Config, dataset: Dataset) -> list[str]:
    """What the number of steps tells of a run from before data and settings were kept; [] for nothing."""
    steps = steps_per_epoch(config, dataset)
    begun = -(-place.position // config.train.iteration_size)
    if place.position <= len(training_batches(config, dataset)) and place.steps == place.epochs * steps + begun:
        return []
    done = place.steps - begun
    trained = f"{done / place.epochs:g} steps per epoch" if place.epochs else f"{place.steps} steps"
    return [f"{trained} were trained, and this data and batch size make {steps} per epoch"]


def adjusted(checkpoint: Checkpoint, config: Config, model: nn.Module, dataset: Dataset) -> dict[str, Any]:
    """A checkpoint as of the beginning of its epoch, for the data and the batch size that there are now.

    Args:
        checkpoint: the whole of it; it stays as it is.
        config: of the run, as it is now.
        model: the network, for the groups of its optimizer.
        dataset: as it is now.

    Raises:
        InputError: more epochs were trained than the run shall have.
    """
    place, steps, train = place_of(checkpoint), steps_per_epoch(config, dataset), config.train
    if place.epochs > train.epochs or (place.epochs == train.epochs and place.position):
        raise InputError(f"train.epochs must be at least {place.epochs}, which were trained, got {train.epochs}")
    optimizer, schedule = make_optimizer(model, steps * train.epochs, config)
    step = (place.epochs - train.start_epoch) * steps  # the schedule counts from where the run began
    rates = [rate * factor(step) for rate, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    (state,), (scheduled,) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    groups = [
        {**group, "lr": rate, "initial_lr": own["initial_lr"], "lr_factor": own["lr_factor"]}
        for group, own, rate in zip(state["param_groups"], optimizer.param_groups, rates, strict=True)
    ]
    places = {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates, "base_lrs": schedule.base_lrs}
    return {
        **checkpoint,
        "loops": None,  # of Lightning, which would go on at numbers of batches and steps that are no longer those
        "epoch": place.epochs,
        "global_step": place.epochs * steps,
        Loaders.__qualname__: {"epoch": place.epochs, "position": 0},
        "optimizer_states": [{**state, "param_groups": groups}],
        "lr_schedulers": [{**scheduled, **places}],
        "training_metrics": [
            {name: torch.zeros_like(sums) for name, sums in each.items()} for each in checkpoint["training_metrics"]
        ],
        KEY: settings_of(config),
    }


def adjust(
    run: RunFolder,
    checkpoint: Checkpoint | None,
    config: Config,
    model: nn.Module,
    dataset: Dataset,
    changes: list[str],
) -> list[str]:
    """Let a run go on with what has changed: write its last checkpoint anew, its configuration, and then its record.

    A kill in between leaves a run that is refused as before, and is adjusted again.

    Args:
        run, checkpoint, config, dataset: as `find_changes`.
        model: the network.
        changes: what that has found.

    Returns:
        What is to be said about it, a line each.
    """
    lines = [f"going on with what has changed: {'; '.join(changes)}"]
    place = None if checkpoint is None else place_of(checkpoint)
    if checkpoint is not None and place is not None:
        AtomicCheckpointIO().save_checkpoint(adjusted(checkpoint, config, model, dataset), run.last)
        lines.append(_beginning(place, config, dataset))
    write_file(run.config_file, to_yaml(config))
    run.update_record(
        data=dataset.fingerprint(), learning_rate=effective_lr(config), continued=_continued(run, place, changes)
    )
    return lines


def computed_otherwise(run: RunFolder, checkpoint: Checkpoint | None, changes: list[str]) -> str:
    """Keep in a run's record that it is computed otherwise from a checkpoint on.

    Args:
        run: the run.
        checkpoint: the whole of it; None where the run begins anew.
        changes: as `computation_changes` found them.

    Returns:
        The line that says so.
    """
    place = None if checkpoint is None else place_of(checkpoint)
    run.update_record(continued=_continued(run, place, changes))
    return (
        f"computed otherwise from here on: {', '.join(changes)}; the result is not that of a run without interruption"
    )


def _continued(run: RunFolder, place: Place | None, changes: list[str]) -> list[dict[str, Any]]:
    """The record's `continued` with these changes: once, where a kill let them be found again at the same place."""
    before = run.record().get("continued") or []
    record = {"after_epochs": 0 if place is None else place.epochs, "changes": changes}
    return before if before[-1:] == [record] else [*before, record]


def _beginning(place: Place, config: Config, dataset: Dataset) -> str:
    """Where the run goes on, in a line."""
    steps, epochs = steps_per_epoch(config, dataset), config.train.epochs
    if place.epochs == epochs:
        return f"all {epochs} epochs were trained; their scores are of the data before"
    anew = f" anew, with the weights after {place.position} batches of it" if place.position else ""
    return (
        f"epoch {place.epochs + 1} of {epochs} begins{anew}, at step {place.epochs * steps} of {epochs * steps}; "
        "scores of the epochs before are of the data before"
    )
