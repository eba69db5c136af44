"""Which values of a configuration make sense, alone and together; needs neither torch nor Lightning."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

from switchnorm.errors import InputError
from switchnorm.training.config import Config, SegmentationConfig

#: The least value of a key, where it has one; null passes where the key allows it.
LEAST = {
    "seed": 0,
    "train.epochs": 1,
    "train.batch_size": 1,
    "train.epoch_steps": 1,
    "train.samples_per_gpu": 1,
    "train.iteration_size": 1,
    "train.label_smoothing": 0,
    "train.checkpoint_minutes": 0,
    "train.ema": 0,
    "train.mixup": 0,
    "train.cutmix": 0,
    "optimizer.lr": 0,
    "optimizer.lr_per": 1,
    "optimizer.momentum": 0,
    "optimizer.weight_decay": 0,
    "optimizer.sparse_lr_factor": 0,
    "optimizer.sparse_clip_norm": 0,
    "optimizer.clip_norm": 0,
    "schedule.gamma": 0,
    "schedule.power": 0,
    "schedule.warmup_epochs": 0,
    "segmentation.deep_supervision": 0,
    "segmentation.window": 32,
    "segmentation.overlap": 0,
    "segmentation.examples": 0,
    "claim.top1": 0,
    "claim.top5": 0,
    "claim.error": 0,
    "claim.mean_iou": 0,
    "claim.pixel_accuracy": 0,
    "claim.overall": 0,
}

#: The largest value of a key.
MOST = {key: 100 for key in LEAST if key.startswith("claim.")}

#: What a key must stay below.
BELOW = {
    "seed": 2**63,
    "train.label_smoothing": 1,
    "train.ema": 1,
    "train.mixup": math.inf,
    "train.cutmix": math.inf,
    "optimizer.lr": math.inf,
    "optimizer.momentum": 1,
    "segmentation.deep_supervision": math.inf,
    "segmentation.overlap": 1,
}


def check(config: Config) -> Config:
    """Return `config` if its values make sense together; raise `InputError` naming the first key that does not."""
    if config.model.name is None:
        raise InputError("model.name must be a name, got null")
    below = {**BELOW, "schedule.warmup_epochs": config.train.epochs}
    for key, least in LEAST.items():
        value = _value(config, key)
        if value is None:
            continue
        if not value >= least:
            raise InputError(f"{key} must be at least {least}, got {value}")
        if key in MOST and not value <= MOST[key]:
            raise InputError(f"{key} must be at most {MOST[key]}, got {value}")
        if key in below and not value < below[key]:
            raise InputError(f"{key} must be below {below[key]}, got {value}")
    for problem in (*_optimizer_problems(config), *_train_problems(config), *_task_problems(config)):
        raise InputError(problem)
    return config


def _optimizer_problems(config: Config) -> Iterator[str]:
    optimizer, schedule = config.optimizer, config.schedule
    if optimizer.nesterov and optimizer.momentum == 0:
        yield "optimizer.nesterov needs a momentum above 0; set optimizer.nesterov to false"
    if schedule.milestones != sorted(schedule.milestones):
        yield f"schedule.milestones must rise, got {schedule.milestones}"
    for place, group in enumerate(optimizer.groups):
        for name, value in (("lr_factor", group.lr_factor), ("weight_decay", group.weight_decay)):
            if value is not None and not 0 <= value < math.inf:
                yield f"optimizer.groups[{place}].{name} must be at least 0, got {value}"


def _train_problems(config: Config) -> Iterator[str]:
    train = config.train
    if train.sync and train.samples_per_gpu is not None:
        yield "train.sync and train.samples_per_gpu exclude each other; set samples_per_gpu to null"
    if train.cuda_graph and train.compile:
        yield "train.cuda_graph and train.compile exclude each other; set one of them to false"
    if train.cuda_graph and train.iteration_size > 1:
        # The recorded backward pass writes each gradient where it wrote the last one.
        yield f"train.cuda_graph needs train.iteration_size 1, got {train.iteration_size}"
    if train.cuda_graph and train.device in ("cpu", "mps"):
        yield f"train.cuda_graph needs train.device cuda, got {train.device}"


def _task_problems(config: Config) -> Iterator[str]:
    """Keys that the other task alone has."""
    if config.task == "classification":
        if config.segmentation != SegmentationConfig():
            yield f"segmentation.* needs a dataset with masks, and {config.data['name']!r} has labels; leave it out"
        return
    for key, off in (("mixup", "0"), ("cutmix", "0"), ("cuda_graph", "false")):
        if getattr(config.train, key):
            yield f"train.{key} is for classification, and {config.data['name']!r} has masks; set it to {off}"


def _value(config: Config, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)
