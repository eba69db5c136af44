"""What happens around the steps of a run: the radius, modes, randomness."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from switchnorm.optim.radius import RadiusShape
from switchnorm.surgery import harden, set_radius
from switchnorm.surgery.importance import sparse_layers
from switchnorm.tasks.task import Task


class RadiusSchedule(pl.Callback):
    """SSN's radius in each step; what became one-hot is made final after each epoch.

    Args:
        radius: of the optimizer steps of the whole run.
    """

    def __init__(self, radius: RadiusShape) -> None:
        self.radius = radius
        self._sparse = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out once whether any layer has a radius: searching all modules in every step would be slow."""
        self._sparse = bool(sparse_layers(pl_module))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Set the radius of this step."""
        if self._sparse:
            set_radius(pl_module, self.radius(trainer.global_step))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make final what has become one-hot, before it is evaluated and saved."""
        harden(pl_module)


class Modes(pl.Callback):
    """Trains the network with some of its modules in evaluation mode.

    Args:
        set_modes: puts a network that is in training mode into these modes.
    """

    def __init__(self, set_modes: Callable[[nn.Module], None]) -> None:
        self.set_modes = set_modes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set them; validation puts them back when it is over."""
        assert isinstance(pl_module, Task)
        self.set_modes(pl_module.model)


class ScaledMomentum(pl.Callback):
    """Multiplies SGD's momentum by the change of the learning rate, where that is more than 10 % in a step.

    Caffe2's momentum holds the rates of past steps, so Detectron corrects it, and its heirs in PyTorch, whose momentum
    holds gradients alone, do so all the same (He et al.'s Detectron, SCALE_MOMENTUM; rates below 1e-7 are left out).
    """

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Compare the rates of this step and of the one before; both are the schedule's, so that nothing is saved."""
        schedule: Any = trainer.lr_scheduler_configs[0].scheduler
        step, base = schedule.last_epoch, max(schedule.base_lrs)
        before, now = (schedule.lr_lambdas[0](each) for each in (max(step - 1, 0), step))
        if base * before > 1e-7 and now and max(now / before, before / now) > 1.1:
            for state in optimizer.state.values():
                if state.get("momentum_buffer") is not None:
                    state["momentum_buffer"].mul_(now / before)


class StepSeed(pl.Callback):
    """Makes randomness inside a step (dropout) a function of (seed, step, process), so that no generator need be saved.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Seed the generators for this step."""
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        mixed = hash((self.seed, step, trainer.global_rank)) & (
            2**63 - 1
        )  # integers, unlike strings, hash alike in every process
        torch.manual_seed(mixed)
        random.seed(mixed)
