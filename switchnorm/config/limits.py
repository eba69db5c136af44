"""Which values of a configuration make sense, alone and together; needs neither torch nor Lightning."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from switchnorm.config import loggers
from switchnorm.config.ranges import Range
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task, tasks
from switchnorm.errors import InputError

#: Of a learning rate: no more than float32 holds.
_RATE = Range(0, most=1e38)
_FACTOR = Range(0, most=1e6)
_EXPONENT = Range(0, most=1000)
#: Of a gradient's norm; one of 0 would be no training.
_NORM = Range(1e-12, most=1e12)
#: Of a Beta distribution: with less, float32 rounds what is drawn to 0; with more, it is a half.
_ALPHA = Range(0.01, most=1000, or_zero=True)

#: The range of every number that all tasks have.
RANGES = {
    "seed": Range(0, below=2**63),
    "train.epochs": Range(1),
    "train.batch_size": Range(1),
    "train.eval_batch_size": Range(1),
    "train.epoch_steps": Range(1),
    "train.samples_per_gpu": Range(1),
    "train.calibrate": Range(0),
    "train.iteration_size": Range(1),
    "train.label_smoothing": Range(0, below=1),
    "train.checkpoint_minutes": Range(0, most=1e6),
    "train.patience": Range(1),
    "train.snapshot_epochs": Range(1),
    "train.start_epoch": Range(0),
    "train.ema": Range(0, below=1),
    "train.mixup": _ALPHA,
    "train.cutmix": _ALPHA,
    "optimizer.lr": _RATE,
    "optimizer.lr_per": Range(1),
    "optimizer.momentum": Range(0, below=1),
    "optimizer.weight_decay": _FACTOR,
    "optimizer.bias_lr_factor": _FACTOR,
    "optimizer.sparse_lr_factor": _FACTOR,
    "optimizer.sparse_clip_norm": _NORM,
    "optimizer.clip_norm": replace(_NORM, off="null"),
    "schedule.gamma": _FACTOR,
    "schedule.power": _EXPONENT,
    "schedule.final_lr": _RATE,
    "schedule.warmup_epochs": Range(0),
    "schedule.warmup_steps": Range(0),
    "schedule.warmup_lr": _RATE,
    "schedule.warmup_from": Range(0, most=1),
    "schedule.radius_start": Range(0, below=1),
    "schedule.radius_end": Range(0, most=1),
    "schedule.radius_power": _EXPONENT,
}

#: Trainings side by side.
WORKERS = Range(1, most=1024)


def check_seeds(seeds: Sequence[int] | None) -> None:
    """Raise `InputError` for seeds of several trainings that are out of range or not different."""
    for seed in seeds or ():
        RANGES["seed"].check("seed", seed)
    if len(set(seeds or ())) < len(seeds or ()):
        raise InputError(f"seeds must differ, got {' '.join(map(str, seeds or ()))}")


_PERCENT = Range(0, most=100)


def check(config: Config) -> Config:
    """Return `config` if its values make sense together; raise `InputError` naming the first key that does not."""
    if config.model.name is None:
        raise InputError("model.name must be a name, got null")
    if config.label is not None and not (config.label.strip() and config.label.isprintable()):
        raise InputError(f"label must be a line of text, got {config.label!r}; null for none")
    epochs = config.train.epochs
    within = ("schedule.warmup_epochs", "train.start_epoch")
    for key, allowed in RANGES.items():
        allowed.check(key, _value(config, key))
        if key in within and _value(config, key) >= epochs:
            raise InputError(
                f"{key} must be below {epochs}, got {_value(config, key)}, since train.epochs is {epochs}; the nearest "
                f"is --{key} {epochs - 1}"
            )
    for name, task in tasks().items():
        for key, allowed in task.ranges.items():
            allowed.check(f"{name}.{key}", getattr(config.tasks[name], key))
        for claim in task.claims:
            _PERCENT.check(f"claim.{claim.key}", config.claim[claim.key])
    for problems in (_optimizer_problems, _schedule_problems, _train_problems, _start_problems, _task_problems):
        for problem in problems(config):
            raise InputError(problem)
    return config


def _optimizer_problems(config: Config) -> Iterator[str]:
    optimizer = config.optimizer
    if optimizer.nesterov and optimizer.momentum == 0:
        yield "optimizer.nesterov needs a momentum above 0; set optimizer.nesterov to false"
    if optimizer.scale_momentum and (optimizer.name != "sgd" or not optimizer.momentum):
        yield "optimizer.scale_momentum needs optimizer.name sgd and a momentum above 0; set it to false"
    for place, group in enumerate(optimizer.groups):
        for name, value in (("lr_factor", group.lr_factor), ("weight_decay", group.weight_decay)):
            _FACTOR.check(f"optimizer.groups[{place}].{name}", value)


def _schedule_problems(config: Config) -> Iterator[str]:
    schedule, lr = config.schedule, config.optimizer.lr
    if schedule.milestones != sorted(set(schedule.milestones)):
        yield f"schedule.milestones must rise, got {schedule.milestones}"
    for milestone in schedule.milestones:
        Range(1, below=config.train.epochs).check("schedule.milestones, as train.epochs says,", milestone)
    for key, value in (("final_lr", schedule.final_lr), ("warmup_lr", schedule.warmup_lr)):
        if value is not None and value > lr:
            yield f"schedule.{key} must be at most optimizer.lr, {lr:g}, got {value:g}"
    if schedule.final_lr and schedule.name == "step":
        yield "schedule.final_lr is where cosine and polynomial end; set it to 0 for step"
    if schedule.warmup_lr is not None and schedule.warmup_from is not None:
        yield "schedule.warmup_lr and schedule.warmup_from exclude each other; set one of them to null"
    if schedule.warmup_epochs and schedule.warmup_steps:
        yield "schedule.warmup_epochs and schedule.warmup_steps exclude each other; set one of them to 0"
    first = "warmup_lr" if schedule.warmup_from is None else "warmup_from"
    if schedule.warmup == "constant" and getattr(schedule, first) is None:
        yield "schedule.warmup constant needs schedule.warmup_lr, the rate at which it stays, or schedule.warmup_from"
    if getattr(schedule, first) is not None and not (schedule.warmup_epochs or schedule.warmup_steps):
        yield (
            f"schedule.{first} needs schedule.warmup_epochs above 0, or schedule.warmup_steps; set it to null, or give "
            "a number of epochs or steps"
        )
    if schedule.warmup_steps and schedule.by == "epoch":
        yield "schedule.by epoch changes the rate between epochs; give schedule.warmup_epochs, or schedule.by step"
    if not schedule.radius_start < schedule.radius_end:
        start, end = schedule.radius_start, schedule.radius_end
        yield f"schedule.radius_end must be above schedule.radius_start, {start:g}, got {end:g}"
    if schedule.radius_power == 0:
        yield "schedule.radius_power must be above 0; 1 is linear"
    if schedule.by == "epoch" and schedule.warmup_epochs % 1:
        warmup = schedule.warmup_epochs
        yield f"schedule.by epoch needs whole schedule.warmup_epochs, got {warmup}; the nearest is {round(warmup)}"


def _train_problems(config: Config) -> Iterator[str]:
    train = config.train
    yield from loggers.problems(train.loggers)
    if train.eval_mode and train.frozen_statistics:
        yield "train.eval_mode freezes statistics too; set train.frozen_statistics to false"
    if train.calibrate and (train.eval_mode or train.frozen_statistics):
        frozen = "eval_mode" if train.eval_mode else "frozen_statistics"
        yield f"train.calibrate and train.{frozen} exclude each other; set train.calibrate to 0"
    if train.samples_per_gpu is not None and train.samples_per_gpu > train.batch_size:
        samples, batch = train.samples_per_gpu, train.batch_size
        yield f"train.samples_per_gpu must be at most train.batch_size, {batch}, got {samples}; null is a whole batch"
    if train.sync and train.samples_per_gpu is not None:
        yield "train.sync and train.samples_per_gpu exclude each other; set samples_per_gpu to null"
    if train.cuda_graph and train.compile:
        yield "train.cuda_graph and train.compile exclude each other; set one of them to false"
    if train.cuda_graph and train.eval_mode:
        # A recording is told from the network itself by its mode.
        yield "train.cuda_graph and train.eval_mode exclude each other; set one of them to false"
    if train.cuda_graph and train.iteration_size > 1:
        # The recorded backward pass writes each gradient where it wrote the last one.
        yield f"train.cuda_graph needs train.iteration_size 1, got {train.iteration_size}"
    if train.strategy == "fsdp":
        # An average is kept of whole parameters; recordings and compiled code know these where they were; FSDP2 takes
        # no parameters in another memory format, and Lightning's loss scaler no gradients that are spread.
        for key, none in (("ema", None), ("cuda_graph", False), ("compile", False), ("channels_last", False)):
            if getattr(train, key) != none:
                yield f"train.strategy fsdp and train.{key} exclude each other; set one of them to its default"
        if train.precision == "16":
            yield "train.strategy fsdp takes train.precision 32, bf16 or 64, got 16; the nearest is bf16"
    if train.cuda_graph and train.device in ("cpu", "mps"):
        yield f"train.cuda_graph needs train.device cuda, got {train.device}"


def _start_problems(config: Config) -> Iterator[str]:
    train = config.train
    if train.warm_start is not None and not 1 <= len(train.start_files) <= 2:
        yield (
            f"train.warm_start takes a file, or the two of an encoder and a decoder, got {len(train.start_files)} files"
        )
    elif len({os.path.abspath(file) for file in train.start_files}) < len(train.start_files):
        yield f"train.warm_start names {train.start_files[0]!r} twice; give the encoder's file and the decoder's"
    if train.start != "auto" and train.warm_start is None:
        yield f"train.start {train.start} needs train.warm_start, the file that it is about; set it to auto"
    if train.start_epoch and train.warm_start is None:
        yield (
            f"train.start_epoch {train.start_epoch} needs train.warm_start, a file with the weights of that epoch; "
            "set it to 0 to begin with new weights"
        )


def _task_problems(config: Config) -> Iterator[str]:
    """What the run's task refuses, and keys that another task alone has."""
    own, data = find_task(config.task), config.data["name"]
    for name, task in tasks().items():
        if task != own and task.section is not None and config.tasks[name] != task.section():
            yield f"{name}.* needs a dataset with {task.targets}, and {data!r} has {own.targets}; leave it out"
    yield from own.check(config)


def _value(config: Config, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)
