"""Lightning's trainer as every run needs it."""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed as dist
from torch import nn

from switchnorm.config.schema import TrainConfig
from switchnorm.processes import is_launched, local_world_size, world_size
from switchnorm.signals import kept_handlers
from switchnorm.training.callbacks.checkpoints import AtomicCheckpointIO
from switchnorm.training.sharding import Sharded

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}


class _OwnStatistics(DDPStrategy):
    """Several processes, each with running statistics of its own.

    By itself DDP gives all of them those of the first, before the first step and before every other. Here it does so
    before the first alone.
    """

    def configure_ddp(self) -> None:
        """Wrap the network, and send no more buffers."""
        super().configure_ddp()
        assert isinstance(self.model, nn.parallel.DistributedDataParallel)
        # Not by an argument: torch 2.15 renames it and changes what it means.
        self.model.broadcast_buffers = False


@contextmanager
def make_trainer(config: TrainConfig, **options: Any) -> Iterator[pl.Trainer]:
    """A trainer for one device, or for the processes that torchrun started; Lightning prints nothing but errors.

    Deterministic operations and handlers of signals belong to the whole process; they are restored when the context is
    left. Of signals Lightning hears none: under SLURM it would save elsewhere and queue the job again, and with several
    processes wait in its handler for all to get the signal.
    """
    devices = local_world_size()
    nodes = world_size() // devices
    processes = devices * nodes
    with _quiet_lightning(), _restored_determinism(), kept_handlers():
        if config.deterministic:
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
        trainer = pl.Trainer(
            accelerator=config.device,
            devices=devices,
            num_nodes=nodes,
            strategy="auto" if processes == 1 else Sharded() if config.strategy == "fsdp" else _OwnStatistics(),
            # FSDP gathers parameters by copies into what is there, which inference tensors do not take.
            inference_mode=config.strategy != "fsdp",
            precision=PRECISION[config.precision],
            deterministic=config.deterministic,
            # Named, for Lightning would take SLURM's word where torchrun or nobody started this process within a job.
            plugins=[AtomicCheckpointIO(), TorchElasticEnvironment() if is_launched() else LightningEnvironment()],
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            log_every_n_steps=10,
            **options,
        )
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        try:
            yield trainer
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise
        if processes > 1:
            # Gloo's threads may still hold tensors: to give them back to an interpreter that is being torn down aborts
            # the process. Not after an error, where the others may never come to the operation that is waited for.
            atexit.register(_leave_processes)


def count_as_done(trainer: pl.Trainer, epochs: int, batches: int, steps: int) -> None:
    """Let a trainer that has not begun go on as after so many epochs.

    Args:
        trainer: the trainer.
        epochs: that count as done.
        batches: of each epoch.
        steps: optimizer steps of each epoch.
    """
    loop = trainer.fit_loop
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        progress.increment_by(epochs)
    loop.epoch_loop.batch_progress.total.increment_by(epochs * batches)
    loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.increment_by(epochs * steps)
    loop.epoch_loop._batches_that_stepped = epochs * steps


class EpochsBegun(pl.Callback):
    """Lets a trainer go on from a checkpoint that has no counters of Lightning, as `continuing.adjusted` writes it.

    Args:
        batches, steps: of each epoch, as of `count_as_done`.
    """

    def __init__(self, batches: int, steps: int) -> None:
        self.batches = batches
        self.steps = steps

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count the epochs before it."""
        if checkpoint["loops"] is None:
            count_as_done(trainer, int(checkpoint["epoch"]), self.batches, self.steps)


def _leave_processes() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice on hardware, workers and logging off the screen; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning\.|lightning_fabric\.|torchmetrics\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _restored_determinism() -> Iterator[None]:
    """Restore the settings of determinism, which a trainer changes for the whole process."""
    workspace = "CUBLAS_WORKSPACE_CONFIG"
    cudnn = torch.backends.cudnn
    mode, flags, environment = (
        torch.get_deterministic_debug_mode(),
        (cudnn.deterministic, cudnn.benchmark),
        os.environ.get(workspace),
    )
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        cudnn.deterministic, cudnn.benchmark = flags
        if environment is None:
            os.environ.pop(workspace, None)
        else:
            os.environ[workspace] = environment
