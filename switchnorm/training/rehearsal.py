"""A dry run: one training step on a few pictures, which shows in seconds whether a configuration trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from switchnorm.config.schema import Config
from switchnorm.data import Cifar10, Cifar100, Dataset, create_dataset
from switchnorm.data.files.cifar_files import locate
from switchnorm.data.loaders.loader import Batch
from switchnorm.errors import AbsentError, InputError
from switchnorm.processes import is_launched
from switchnorm.surgery.batch import check_support
from switchnorm.training.beginning import begin
from switchnorm.training.build import (
    build_model,
    check_channels,
    check_device,
    check_frozen,
    check_ghosts,
    check_task,
    rehearse,
    steps_per_epoch,
    task_class,
    training_batches,
    training_modes,
    training_task,
)
from switchnorm.training.failures import compiling
from switchnorm.training.first_look import first_look
from switchnorm.training.fit import step_callbacks
from switchnorm.training.loggers import check_loggers
from switchnorm.training.optimizer import effective_lr
from switchnorm.training.pictures import as_expected
from switchnorm.training.schedule import factor
from switchnorm.training.trainer import count_as_done, make_trainer


@dataclass(frozen=True)
class DryRun:
    """What a dry run found.

    Args:
        parameters: how many numbers of the network are trained.
        frozen: how many are not.
        samples: how many pictures the step took, instead of the configured batch.
        missing: why the data is not here, so that the pictures were noise; "" where it is.
        steps_per_epoch: optimizer steps of an epoch; None where the data is not here.
        lr: the learning rate that the schedule multiplies.
        loss: of the step.
        said: the lines that the run would begin with.
        size: height and width of pictures of noise, where those of the data are larger.
        first_lr: the rate of the first step, where training begins with a later epoch and the steps of one are known.
    """

    parameters: int
    frozen: int
    samples: int
    missing: str
    steps_per_epoch: int | None
    lr: float
    loss: float
    said: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    first_lr: float | None = None

    def __str__(self) -> str:
        size = "" if self.size is None else f" in {self.size[0]}x{self.size[1]} pixels"
        missing = f"of noise{size}, for the data is not here ({self.missing})"
        data = missing if self.missing else "of the training set"
        count = self.steps_per_epoch
        steps = "" if count is None else f", {count} step{'' if count == 1 else 's'} per epoch"
        trained = f"{self.parameters:,} of {self.parameters + self.frozen:,}" if self.frozen else f"{self.parameters:,}"
        pictures = f"{self.samples} picture{'' if self.samples == 1 else 's'}"
        first = "" if self.first_lr is None else f", {self.first_lr:g} in the first step"
        found = (
            f"{trained} parameters{' are trained' if self.frozen else ''}{steps}, learning rate {self.lr:g}{first}; "
            f"one step on {pictures} {data}: loss {self.loss:.4f}"
        )
        return "\n".join([*self.said, found])


class _Once:
    """A loader of one batch; Lightning would take a list for a list of loaders."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        yield self.batch


def dry_run(config: Config) -> DryRun:
    """Build everything that a run needs and take one optimizer step, writing nothing.

    The step takes 4 samples, or twice `train.samples_per_gpu` where it is set, and never more than the batch. Data that
    would have to be downloaded first is replaced by noise of its shape.

    Args:
        config: of the run.

    Raises:
        InputError: whatever would keep the run from starting, but for data that is not here.
    """
    check_device(config)
    check_task(config)
    check_loggers(config)
    if is_launched():
        raise InputError("a dry run takes one process; start it without torchrun")
    config, pictures = as_expected(config)
    dataset = create_dataset(**config.data)
    missing = _missing(dataset)
    model = build_model(config, _num_classes(dataset))
    check_channels(config, model, dataset)
    if not missing:
        dataset.check_training()
        task_class(dataset.task).check_data(dataset)
    if config.train.calibrate:
        check_support(model, "calibrate")
    check_frozen(config, model)
    check_ghosts(config, world=1)
    said = begin(model, config, pictures, dataset).lines
    classes = rehearse(model, config.train.batch_size, dataset, training_modes(config))
    said += () if missing else first_look(config, dataset)
    samples = min(config.train.batch_size, 2 * (config.train.samples_per_gpu or 2))
    steps = None if missing else steps_per_epoch(config, dataset)
    batch = _noise(dataset, samples, classes) if missing else _batch(config, dataset, samples)
    loss = _one_step(config, model, batch, classes, steps or 1)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    height, width = batch[0].shape[-2:]
    size = (height, width) if missing and (height, width) != tuple(dataset.shape) else None
    lr, first = effective_lr(config), _first_lr(config, steps)
    return DryRun(trained, frozen, samples, missing, steps, lr, loss, said, size, first)


def _first_lr(config: Config, steps: int | None) -> float | None:
    """As `DryRun.first_lr`: where a warm-up ends depends on the steps of an epoch."""
    first, epochs = config.train.start_epoch, config.train.epochs
    if not first or steps is None:
        return None
    return effective_lr(config) * factor(config.schedule, first * steps, epochs * steps, epochs, config.optimizer.lr)


def _one_step(config: Config, model: nn.Module, batch: Batch, classes: int, steps: int) -> float:
    """The loss of the first step of a run with so many steps in each epoch."""
    total, first = steps * config.train.epochs, config.train.start_epoch
    task = training_task(config, model, classes, total)
    with make_trainer(
        config.train,
        max_steps=first * steps + 1,
        limit_val_batches=0,
        gradient_clip_val=config.optimizer.clip_norm,
        callbacks=step_callbacks(config, total),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    ) as trainer:
        count_as_done(trainer, first, config.train.iteration_size * steps, steps)
        with compiling("set train.compile to false"):
            trainer.fit(task, _Once(batch))
    return task.take_training_metrics()["train_loss"]


def _missing(dataset: Dataset) -> str:
    """Why the data is not here, in words; "" where it is. Nothing is downloaded for a rehearsal."""
    try:
        if isinstance(dataset, (Cifar10, Cifar100)) and locate(dataset.folder, dataset.versions) is None:
            return f"{dataset.title} would be downloaded"
        dataset.prepare()
    except AbsentError as error:
        return str(error)
    return ""


def _num_classes(dataset: Dataset) -> int | None:
    """None where only the data knows, and it is missing."""
    try:
        return dataset.num_classes
    except AbsentError:
        return None


def _batch(config: Config, dataset: Dataset, samples: int) -> Batch:
    """The first of the run's pictures."""
    batches = training_batches(_smaller(config, samples), dataset)
    batches.load_state_dict({"epoch": config.train.start_epoch, "position": 0})
    return next(iter(batches))


def _smaller(config: Config, samples: int) -> Config:
    return replace(config, train=replace(config.train, batch_size=samples))


def _noise(dataset: Dataset, samples: int, classes: int) -> Batch:
    return task_class(dataset.task).noise(samples, (dataset.channels, *dataset.shape), classes)
