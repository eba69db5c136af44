"""An exponential moving average of the weights, which is what a run evaluates and keeps as its result."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from switchnorm.layers.norms.averaged import Choices, take_over
from switchnorm.surgery.importance import is_sparse
from switchnorm.surgery.over_processes import average
from switchnorm.surgery.statistics import tracked_buffers
from switchnorm.tasks.task import Task
from switchnorm.weights.checkpoint import TRAINED


class WeightAverage(pl.Callback):
    """After each optimizer step, average = decay * average + (1 - decay) * weights, starting as those of step 1.

    Running statistics are averaged like parameters. Counters of batches, SSN's radius and its final choices, with their
    logits, are copied. In validation the network holds the average. Checkpoints hold it under "state_dict", which
    evaluation loads, and the weights to continue training with under "trained_state_dict".

    Lightning's WeightAveraging averages counters too, and the oldest Lightning that this package supports lacks it.

    Args:
        decay: in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] | None = None
        self._step = 0
        self._swapped = False
        self._sparse: list[str] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue a resumed run: move its average to the network's device, and count steps from where it was."""
        if self.average is not None:  # loaded from a checkpoint, before the network went to its device
            state = _state(pl_module)
            self.average = {key: value.to(state[key]) for key, value in self.average.items()}
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Average, if this batch ended an optimizer step that was taken."""
        assert isinstance(pl_module, Task)
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            if not pl_module.left_out:
                self._update(pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average into the network, with the choices that were made final since the last step.

        Its running statistics are the mean over processes from here on, as `MeanStatistics` makes those of training.
        """
        if self.average is not None:
            self._copy_rest(pl_module, _state(pl_module))
            average({key: self.average[key] for key in tracked_buffers(pl_module) if key in self.average})
            self._swap(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back: best.ckpt, which Lightning writes without asking callbacks, has been written by now."""
        if self._swapped:
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the network's state, and the weights beside it."""
        if self.average is None:
            return
        current = checkpoint["state_dict"]
        averaged, trained = (current, self.average) if self._swapped else (self.average, current)
        names = _names(pl_module.state_dict())
        for name, state in (("state_dict", averaged), (TRAINED, trained)):
            checkpoint[name] = {key: state[names[key]] if key in names else current[key] for key in current}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue with the weights, and with the average as it was."""
        if TRAINED not in checkpoint:  # killed before the first step ended
            return
        self.average = {key: checkpoint["state_dict"][key].clone() for key in _state(pl_module)}
        pl_module.load_state_dict(checkpoint[TRAINED])

    @torch.no_grad()
    def _update(self, module: nn.Module) -> None:
        state = _state(module)
        if self.average is None:
            self.average = {key: value.clone() for key, value in state.items()}
            return
        blended = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[key] for key in blended], [state[key] for key in blended], 1 - self.decay)
        self._copy_rest(module, state)

    @torch.no_grad()
    def _copy_rest(self, module: nn.Module, state: dict[str, Tensor]) -> None:
        assert self.average is not None
        for key, value in state.items():
            if not value.is_floating_point():
                self.average[key].copy_(value)
        if self._sparse is None:
            self._sparse = [f"{name}." for name, layer in module.named_modules() if is_sparse(layer)]
        for prefix in self._sparse:
            average, trained = (Choices(*(of[prefix + key] for key in Choices._fields)) for of in (self.average, state))
            take_over(average, trained)

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        assert self.average is not None
        for key, value in _state(module).items():
            kept = value.clone()
            value.copy_(self.average[key])
            self.average[key].copy_(kept)
        self._swapped = not self._swapped


def _state(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors, each under its first name: to swap one twice would leave it as it was."""
    state = module.state_dict()
    return {key: state[key] for key, first in _names(state).items() if key == first}


def _names(state: dict[str, Any]) -> dict[str, str]:
    """The first name of each tensor, by all of its names: modules and parameters may be shared."""
    first: dict[Any, str] = {}
    return {
        key: first.setdefault((value.data_ptr(), value.shape) if value.numel() else key, key)
        for key, value in state.items()
        if isinstance(value, Tensor)
    }
