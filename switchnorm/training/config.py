"""The configuration of a run: what a recipe may say, what a flag may change, what the run folder keeps.

This module needs neither torch nor Lightning, so that a wrong flag is reported at once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

from switchnorm.errors import InputError


@dataclass
class ModelConfig:
    """The network.

    Args:
        name: as `switchnorm.list_models()` knows it.
        norm: bn, gn, gn:G, in, ln, sn or ssn; with +ws for weight-standardized convolutions.
        conv: "ws" for weight-standardized convolutions, another way to say +ws.
    """

    name: str
    norm: str = "bn"
    conv: Literal["", "ws"] = ""


@dataclass
class TrainConfig:
    """The training.

    Args:
        epochs: passes over the training set.
        batch_size: samples per step, over all devices.
        samples_per_gpu: over how many samples batch statistics are taken, as that many samples per GPU without
            synchronisation give (ghost batches); null takes each device's share of the batch.
        sync: whether batch statistics span all devices.
        iteration_size: batches whose gradients one optimizer step adds up.
        label_smoothing: in [0, 1).
        precision: of the computation: 32, bf16 or 16 (mixed with float32 weights), or 64.
        device: auto, cpu, cuda or mps; several of them through torchrun.
        checkpoint_minutes: how often a checkpoint is written inside an epoch, besides the one after each epoch.
    """

    epochs: int
    batch_size: int
    samples_per_gpu: int | None = None
    sync: bool = False
    iteration_size: int = 1
    label_smoothing: float = 0.0
    precision: Literal["32", "bf16", "16", "64"] = "32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    checkpoint_minutes: float = 5.0


@dataclass
class OptimizerConfig:
    """SGD.

    Args:
        lr: the learning rate, which the schedule multiplies.
        momentum: share of the old velocity that is kept.
        nesterov: whether to look ahead by one velocity.
        weight_decay: of every parameter but the importance logits.
        sparse_lr_factor: what SSN's importance logits get of the learning rate.
        sparse_clip_norm: the largest norm of the gradient of SSN's importance logits together.
        clip_norm: the largest norm of the gradient of all parameters together; null for none.
    """

    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    sparse_lr_factor: float = 0.1
    sparse_clip_norm: float = 1.0
    clip_norm: float | None = None


@dataclass
class ScheduleConfig:
    """The learning rate over the run.

    Args:
        name: step, cosine or polynomial.
        milestones: epochs after which step multiplies the rate by gamma.
        gamma: factor of step.
        power: exponent of polynomial.
        warmup_epochs: epochs over which the rate rises linearly at first.
    """

    name: Literal["step", "cosine", "polynomial"] = "cosine"
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    power: float = 0.9
    warmup_epochs: float = 0.0


@dataclass
class Config:
    """A whole run.

    Args:
        model: the network.
        data: `name`, and the arguments of that dataset's class in `switchnorm.data`.
        train: the training.
        optimizer: SGD.
        schedule: the learning rate over the run.
        task: what a batch means.
        seed: of the initial weights, the order of samples, augmentation and dropout.
    """

    model: ModelConfig
    data: dict[str, Any]
    train: TrainConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    task: Literal["classification"] = "classification"
    seed: int = 0


#: The least value of a key, where it has one; null passes where the key allows it.
LEAST = {
    "seed": 0,
    "train.epochs": 1,
    "train.batch_size": 1,
    "train.samples_per_gpu": 1,
    "train.iteration_size": 1,
    "train.label_smoothing": 0,
    "train.checkpoint_minutes": 0,
    "optimizer.lr": 0,
    "optimizer.momentum": 0,
    "optimizer.weight_decay": 0,
    "optimizer.sparse_lr_factor": 0,
    "optimizer.sparse_clip_norm": 0,
    "optimizer.clip_norm": 0,
    "schedule.gamma": 0,
    "schedule.power": 0,
    "schedule.warmup_epochs": 0,
}

#: What a key must stay below.
BELOW = {"seed": 2**63, "train.label_smoothing": 1, "optimizer.momentum": 1}


def check(config: Config) -> Config:
    """Return `config` if its values make sense together; raise `InputError` naming the first key that does not."""
    train, optimizer, schedule = config.train, config.optimizer, config.schedule
    for key in ("model.name", "model.norm"):
        if _value(config, key) is None:
            raise InputError(f"{key} must be a name, got null")
    below = {**BELOW, "schedule.warmup_epochs": train.epochs}
    for key, least in LEAST.items():
        value = _value(config, key)
        if value is not None and not value >= least:
            raise InputError(f"{key} must be at least {least}, got {value}")
        if key in below and not value < below[key]:
            raise InputError(f"{key} must be below {below[key]}, got {value}")
    if optimizer.nesterov and optimizer.momentum == 0:
        raise InputError("optimizer.nesterov needs a momentum above 0; set optimizer.nesterov to false")
    if schedule.milestones != sorted(schedule.milestones):
        raise InputError(f"schedule.milestones must rise, got {schedule.milestones}")
    if train.sync and train.samples_per_gpu is not None:
        raise InputError("train.sync and train.samples_per_gpu exclude each other; set samples_per_gpu to null")
    return config


def _value(config: Config, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)
