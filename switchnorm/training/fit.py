"""Training and evaluating one run."""

from __future__ import annotations

import copy
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from switchnorm.data import Dataset, TrainingBatches, create_dataset
from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.surgery import ghost, sync
from switchnorm.tasks import Classification
from switchnorm.training.callbacks import History, RadiusSchedule, StepSeed
from switchnorm.training.checkpoints import AtomicCheckpointIO, MidEpochCheckpoint
from switchnorm.training.config import Config, TrainConfig
from switchnorm.training.optimizer import make_optimizer
from switchnorm.training.progress import PlainProgress, ProgressBar
from switchnorm.training.run_folder import RunFolder
from switchnorm.weights import load_state, read_state

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}


class Loaders(pl.LightningDataModule):
    """Hands a dataset's batches to the trainer, on its device and in its share.

    Keeps the training loader's place in checkpoints. Lightning does so too, but takes it up only inside an epoch.
    """

    def __init__(self, dataset: Dataset, config: Config) -> None:
        super().__init__()
        self.dataset = dataset
        self.config = config
        self._place: dict[str, int] | None = None
        self._training: TrainingBatches | None = None

    def train_dataloader(self) -> TrainingBatches:
        """The training batches, from the place that a checkpoint named."""
        self._training = self.dataset.train_batches(seed=self.config.seed, **self._share())
        if self._place is not None:
            self._training.load_state_dict(self._place)
        return self._training

    def state_dict(self) -> dict[str, Any]:
        """The training loader's place."""
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the place for the loader, which does not exist yet."""
        self._place = state_dict

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
    device = config.train.device
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise InputError(f"train.device {device!r} is not available here; choose 'cpu' or 'auto'")
    dataset = create_dataset(**config.data)
    model = build_model(config, dataset)
    first = next(m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd))
    if first.in_channels != dataset.channels:
        raise InputError(
            f"model {config.model.name!r} takes {first.in_channels} channels, but {config.data['name']!r} has "
            f"{dataset.channels}; choose another model or dataset"
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    dataset.train_batches(batch_size=config.train.batch_size, seed=config.seed, world=world)
    rehearse(model, config.train.batch_size // (1 if config.train.sync else world), dataset)
    return model, dataset


def rehearse(model: nn.Module, samples: int, dataset: Dataset) -> None:
    """Pass a batch through the network without computing it, to see what it will not take.

    Raises:
        InputError: batch statistics over a single element, for example.
    """
    copy.deepcopy(model).to("meta").train()(
        torch.empty(samples, dataset.channels, dataset.size, dataset.size, device="meta")
    )


def total_steps(config: Config, dataset: Dataset) -> int:
    """Optimizer steps of a whole run; an epoch's last one adds up what is left of its batches."""
    batches = len(dataset.samples[0]) // config.train.batch_size
    return -(-batches // config.train.iteration_size) * config.train.epochs


def train(run: RunFolder, config: Config, model: nn.Module, dataset: Dataset, *, quiet: bool = False) -> dict[str, Any]:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        run: the folder, which holds the configuration already.
        config: the configuration.
        model, dataset: as `prepare` made them.
        quiet: whether to show no progress.

    Returns:
        The result that the run's record keeps, validation accuracy at the end and at its best, in [0, 1]; nothing in
        processes other than the first.
    """
    steps = total_steps(config, dataset)
    optimize = partial(make_optimizer, total_steps=steps, config=config)
    task = Classification(model, dataset.num_classes, config.train.label_smoothing, optimize)
    best = ModelCheckpoint(
        run.checkpoints,
        "best",
        monitor="val_accuracy",
        mode="max",
        enable_version_counter=False,
        save_weights_only=True,
    )
    newest = [
        ModelCheckpoint(run.checkpoints, "last", enable_version_counter=False, save_on_train_epoch_end=True),
        MidEpochCheckpoint(run.checkpoints, config.train.checkpoint_minutes),
    ]
    progress: list[pl.Callback] = []
    if not quiet:
        progress.append(ProgressBar() if sys.stdout.isatty() else PlainProgress())
    with quiet_lightning():
        trainer = _trainer(
            config.train,
            max_epochs=config.train.epochs,
            accumulate_grad_batches=config.train.iteration_size,
            gradient_clip_val=config.optimizer.clip_norm,
            callbacks=[RadiusSchedule(steps), StepSeed(config.seed), History(run), *progress, best, *newest],
            logger=TensorBoardLogger(run.path, name="", version="tensorboard"),
            enable_progress_bar=not quiet and sys.stdout.isatty(),
            default_root_dir=run.path,
        )
        try:
            trainer.fit(task, Loaders(dataset, config), ckpt_path=run.last if run.last.is_file() else None)
        except SystemExit:  # how Lightning ends on Ctrl-C
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise
    if not trainer.is_global_zero:
        return {}
    accuracies = [float(row["val_accuracy"]) for row in run.metrics()]
    result = {"val_accuracy": accuracies[-1], "best_val_accuracy": max(accuracies)}
    run.update_record(status="finished", result=result)
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
    """A trainer for one device, or for the processes that torchrun started."""
    devices, nodes = 1, 1
    if "LOCAL_WORLD_SIZE" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    return pl.Trainer(
        accelerator=config.device,
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
