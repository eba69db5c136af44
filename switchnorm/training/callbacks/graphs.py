"""The network's two passes as CUDA graphs."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from switchnorm.tasks.task import Task


class GraphedNetwork(pl.Callback):
    """Records the network's forward and backward pass before the first step, and replays them in every one.

    Replaying takes one call where the passes take one per kernel, so that a small network does not wait for Python.
    Loss, clipping and optimizer stay as they are; evaluation, whose batches differ in size, takes the network itself.

    A recording holds addresses: parameters and buffers must stay where they are, as they do in training.
    """

    def __init__(self) -> None:
        self._recorded = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Record, before the first batch, with pictures of its shape."""
        if not self._recorded:
            assert isinstance(pl_module, Task)
            with trainer.precision_plugin.forward_context():
                record(pl_module.model, pl_module.layout(batch[0]))
            self._recorded = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the network its own forward back."""
        if self._recorded:
            assert isinstance(pl_module, Task)
            release(pl_module.model)
            self._recorded = False


def record(model: nn.Module, images: Tensor) -> None:
    """Make `model` replay its passes in training mode.

    Args:
        model: in training mode, on a CUDA device.
        images: of the shape, dtype and layout that every later call has; their values do not matter.
    """
    # Warming up and recording run the network, which draws random numbers and updates running statistics. Both are put
    # back, so that training begins as if it had not run.
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[images.device]):
        torch.cuda.make_graphed_callables(model, (images.clone(),), allow_unused_input=True)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def release(model: nn.Module) -> None:
    """Undo `record`."""
    vars(model).pop("forward", None)
