"""Training and evaluating one run."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from switchnorm.data import Dataset, create_dataset
from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.surgery import ghost, sync
from switchnorm.tasks import Classification
from switchnorm.training.callbacks import History, RadiusSchedule, StepSeed
from switchnorm.training.checkpoint_io import AtomicCheckpointIO
from switchnorm.training.config import Config, TrainConfig
from switchnorm.training.optimizer import make_optimizer
from switchnorm.training.progress import PlainProgress
from switchnorm.training.run_folder import RunFolder
from switchnorm.weights import load_state, read_state

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}


class Loaders(pl.LightningDataModule):
    """Hands a dataset's batches to the trainer, on its device and in its share."""

    def __init__(self, dataset: Dataset, config: Config) -> None:
        super().__init__()
        self.dataset = dataset
        self.config = config

    def train_dataloader(self) -> Any:
        """The training batches."""
        return self.dataset.train_batches(seed=self.config.seed, **self._share())

    def val_dataloader(self) -> Any:
        """The test batches."""
        return self.dataset.test_batches(**self._share())

    def _share(self) -> dict[str, Any]:
        assert self.trainer is not None
        return {
            "batch_size": self.config.train.batch_size,
            "rank": self.trainer.global_rank,
            "world": self.trainer.world_size,
            "device": self.trainer.strategy.root_device,
        }


def build_model(config: Config, dataset: Dataset) -> nn.Module:
    """The freshly initialised network of a run, with its batch geometry."""
    torch.manual_seed(config.seed)
    model = create_model(
        config.model.name, norm=config.model.norm, conv=config.model.conv, num_classes=dataset.num_classes
    )
    if config.train.samples_per_gpu is not None:
        ghost(model, config.train.samples_per_gpu)
    return sync(model) if config.train.sync else model


def prepare(config: Config) -> tuple[nn.Module, Dataset]:
    """Build the network and read the data, so that whatever is wrong shows before a folder is made.

    Raises:
        InputError: an unknown model, norm or dataset, or data that is missing or damaged.
    """
    options = {key: value for key, value in config.data.items() if key != "name"}
    dataset = create_dataset(config.data["name"], **options)
    model = build_model(config, dataset)
    first = next(m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd))
    if first.in_channels != dataset.channels:
        raise InputError(
            f"model {config.model.name!r} takes {first.in_channels} channels, but {config.data['name']!r} has "
            f"{dataset.channels}; choose another model or dataset"
        )
    dataset.train_batches(batch_size=config.train.batch_size, seed=config.seed)
    return model, dataset


def train(run: RunFolder, config: Config, model: nn.Module, dataset: Dataset, *, quiet: bool = False) -> dict[str, Any]:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        run: the folder, which holds the configuration already.
        config: the configuration.
        model, dataset: as `prepare` made them.
        quiet: whether to show no progress.

    Returns:
        The result that the run's record keeps: validation accuracy at the end and at its best, in [0, 1].
    """
    task = Classification(
        model, dataset.num_classes, config.train.label_smoothing, partial(make_optimizer, config=config)
    )
    best = ModelCheckpoint(
        run.checkpoints,
        "best",
        monitor="val_accuracy",
        mode="max",
        enable_version_counter=False,
        save_weights_only=True,
    )
    newest = [
        ModelCheckpoint(run.checkpoints, "last", enable_version_counter=False, save_on_train_epoch_end=True, **when)
        for when in ({"every_n_epochs": 1}, {"train_time_interval": timedelta(minutes=config.train.checkpoint_minutes)})
    ]
    progress: list[pl.Callback] = []
    if not quiet:
        progress.append(RichProgressBar() if sys.stdout.isatty() else PlainProgress())
    options: dict[str, Any] = dict(  # noqa: C408
        max_epochs=config.train.epochs,
        accumulate_grad_batches=config.train.iteration_size,
        callbacks=[RadiusSchedule(), StepSeed(config.seed), History(run), *progress, best, *newest],
        logger=TensorBoardLogger(run.path, name="", version="tensorboard"),
        enable_progress_bar=not quiet and sys.stdout.isatty(),
        default_root_dir=run.path,
    )
    started = time.monotonic()
    with quiet_lightning():
        trainer = _trainer(config.train, **options)
        trainer.fit(task, Loaders(dataset, config), ckpt_path=run.last if run.last.is_file() else None)
    result = {"val_accuracy": float(trainer.callback_metrics["val_accuracy"])}
    if best.best_model_score is not None:
        result["best_val_accuracy"] = float(best.best_model_score)
    if trainer.is_global_zero:
        seconds = round((run.record().get("seconds") or 0) + time.monotonic() - started, 1)
        run.update_record(status="finished", seconds=seconds, result=result)
    return result


def evaluate(run: RunFolder, checkpoint: Path) -> dict[str, float]:
    """Loss and accuracy of a checkpoint of a run on the test set.

    Raises:
        InputError: no such checkpoint, or one of another network.
    """
    config = run.config()
    model, dataset = prepare(config)
    load_state(model, read_state(checkpoint), f"checkpoint {str(checkpoint)!r}")
    task = Classification(model, dataset.num_classes)
    with quiet_lightning():
        trainer = _trainer(config.train, logger=False, enable_progress_bar=False, enable_checkpointing=False)
        (metrics,) = trainer.validate(task, Loaders(dataset, config), verbose=False)
    return {name: float(value) for name, value in metrics.items()}


def _trainer(config: TrainConfig, **options: Any) -> pl.Trainer:
    """A trainer for the devices that are asked for, or that torchrun started."""
    devices, nodes = config.devices, 1
    if "LOCAL_WORLD_SIZE" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    accelerator = {"cuda": "gpu"}.get(config.device, config.device)
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("train.device 'cuda' is not available here; choose 'cpu' or 'auto'")
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise InputError("train.device 'mps' is not available here; choose 'cpu' or 'auto'")
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=PRECISION[config.precision],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        log_every_n_steps=10,
        **options,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
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
