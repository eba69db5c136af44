"""From the configuration to the network, the data and the task, and everything that can be wrong with them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from switchnorm.classes import Classes
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task, loaded
from switchnorm.data import Dataset, Share, TrainingLoader
from switchnorm.errors import InputError
from switchnorm.models import task_of
from switchnorm.processes import world_size
from switchnorm.surgery import evaluation_mode, freeze, freeze_statistics, ghost, sync
from switchnorm.surgery.batch import check_support
from switchnorm.surgery.statistics import chosen_tracking_layers
from switchnorm.tasks.task import MakeOptimizer, Task
from switchnorm.training.loggers import check_loggers
from switchnorm.training.network import check_device, check_task, dataset_of, make_network
from switchnorm.training.optimizer import make_optimizer, parameter_groups
from switchnorm.training.optimizers import optimizer_of


def build_model(config: Config, num_classes: int | None) -> nn.Module:
    """`make_network` by the run's seed, with its batch geometry, frozen parts and memory format."""
    torch.manual_seed(config.seed)
    wanted = config.model
    model = make_network(config, num_classes)
    if config.train.samples_per_gpu is not None:
        ghost(model, config.train.samples_per_gpu)
    if config.train.sync:
        model = sync(model)
    if config.train.freeze:
        _freeze(config, model)
    if config.train.precision == "64":
        model = model.double()  # now, since a checkpoint's float64 numbers would be rounded in a float32 network
    return task_class(task_of(wanted.name)).channels_last(model) if config.train.channels_last else model


def _freeze(config: Config, model: nn.Module) -> None:
    try:
        freeze(model, config.train.freeze)
    except InputError as error:
        raise InputError(f"train.freeze: {error}") from error
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"train.freeze {config.train.freeze} leaves nothing to train; freeze less of the network")


def prepare(config: Config, classes: Classes | None = None) -> tuple[nn.Module, Dataset]:
    """Build the network and read the data, so that whatever is wrong shows before a folder is made.

    Args:
        config: of the run.
        classes: of a run that has begun.

    Raises:
        InputError: an unknown model, norm or dataset, data that is missing, damaged or of one class, a device that is
            not here, parameter groups that match nothing, an optimizer or an option of it that torch lacks, a logger
            that is not installed, or layers that cannot be calibrated where that is asked for.
    """
    check_loggers(config)
    model, dataset = prepare_evaluation(config, classes)
    dataset.check_training()
    parameter_groups(model, config.optimizer)
    optimizer_of(config.optimizer)
    world = world_size()
    check_ghosts(config, world)
    share = Share(world=world)
    training_batches(config, dataset, share)
    steps_per_epoch(config, dataset)
    dataset.test_batches(batch_size=config.train.test_batch, share=share)
    if config.train.calibrate:
        check_support(model, "calibrate")
    check_frozen(config, model)
    set_modes = training_modes(config)
    rehearse(model, config.train.batch_size // (1 if config.train.sync else world), dataset, set_modes)
    return model, dataset


def check_frozen(config: Config, model: nn.Module) -> None:
    """Raise `InputError` for a pattern of layers with frozen statistics that matches none."""
    frozen = config.train.frozen_statistics
    if isinstance(frozen, str) and not chosen_tracking_layers(model):
        raise InputError("train.frozen_statistics has no effect: no layer keeps running statistics; set it to false")
    try:
        chosen_tracking_layers(model, frozen if isinstance(frozen, str) else None)
    except InputError as error:
        raise InputError(f"train.frozen_statistics: {error}") from error


def training_modes(config: Config) -> Callable[[nn.Module], None] | None:
    """What puts the run's network into the modes that it is trained in; None where that is training mode."""
    if config.train.eval_mode:
        return evaluation_mode
    frozen = config.train.frozen_statistics
    if not frozen:
        return None
    return partial(freeze_statistics, include=None if isinstance(frozen, bool) else frozen)


def training_batches(config: Config, dataset: Dataset, share: Share = Share()) -> TrainingLoader:
    """The run's training batches, or a process's share of them."""
    train = config.train
    return dataset.train_batches(
        batch_size=train.batch_size, seed=config.seed, epochs=train.epochs, steps=train.epoch_steps, share=share
    )


def prepare_evaluation(config: Config, classes: Classes | None = None) -> tuple[nn.Module, Dataset]:
    """Build the network and read the data for evaluation; `prepare` also checks what training needs.

    Args:
        config: which network and dataset.
        classes: of the network, where it is known what these are.

    Raises:
        InputError: as `prepare`.
    """
    check_device(config)
    check_task(config)
    dataset = dataset_of(config, classes)
    model = build_model(config, dataset.num_classes)
    dataset.prepare()
    check_channels(config, model, dataset)
    task_class(dataset.task).check_data(dataset)
    return model, dataset


def check_ghosts(config: Config, world: int) -> None:
    """Raise `InputError` for ghost batches that do not divide the share of a batch that each of `world` processes has.

    A group of what is left over would have statistics that no GPU has.
    """
    samples, batch = config.train.samples_per_gpu, config.train.batch_size
    if samples is None or batch % (samples * world) == 0:
        return
    nearest = [f"--batch-size {max(round(batch / (samples * world)), 1) * samples * world}"]
    if batch % world == 0:
        divisors = (each for each in range(1, batch // world + 1) if batch // world % each == 0)
        nearest.insert(0, f"--samples-per-gpu {min(divisors, key=lambda each: abs(each - samples))}")
    share = f"the {batch} samples of a batch" + (f" among {world} processes" if world > 1 else "")
    raise InputError(
        f"train.samples_per_gpu {samples} does not divide {share}; take {' or '.join(nearest)}, or null for a device's "
        "whole share"
    )


def check_channels(config: Config, model: nn.Module, dataset: Dataset) -> None:
    """Raise `InputError` if the network does not take the dataset's pictures."""
    first = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    if first is not None and first.in_channels != dataset.channels:
        raise InputError(
            f"model {config.model.name!r} takes {first.in_channels} channels, but {config.data['name']!r} has "
            f"{dataset.channels}; choose another model or dataset"
        )


def rehearse(
    model: nn.Module, samples: int, dataset: Dataset, set_modes: Callable[[nn.Module], None] | None = None
) -> int:
    """Run a batch of the largest pictures through copies of the network, as `Task.rehearse` of its task does.

    Args:
        model: the network.
        samples: of the batch.
        dataset: whose pictures they are.
        set_modes: as `training_modes`.

    Returns:
        For how many classes the network is.

    Raises:
        InputError: batch statistics over a single element, for example, pictures that are too small, or more outputs
            than logits.
    """

    def copied(device: str) -> nn.Module:
        made = copy.deepcopy(model).to(device).train()
        for module in made.modules():
            if getattr(module, "momentum", 0) is None:  # torch's layers would read how many batches there were
                setattr(module, "momentum", 0.1)  # noqa: B010, no attribute of every module
        if set_modes is not None:
            set_modes(made)
        return made

    height, width = dataset.shape
    try:
        return task_class(dataset.task).rehearse(copied, (samples, dataset.channels, height, width))
    except InputError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:  # how other libraries' networks refuse a shape
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{type(model).__name__} does not take pictures of {height}x{width} pixels: {reason}"
        ) from error


def steps_per_epoch(config: Config, dataset: Dataset) -> int:
    """Optimizer steps of an epoch; the last one accumulates the batches that are left, which may be fewer.

    Raises:
        InputError: a step of more batches than an epoch has: its learning rate may be scaled to samples that it lacks.
    """
    batches, together = len(training_batches(config, dataset)), config.train.iteration_size
    if together > batches:
        raise InputError(f"train.iteration_size must be at most the batches of an epoch, {batches}, got {together}")
    return -(-batches // together)


def total_steps(config: Config, dataset: Dataset) -> int:
    """Optimizer steps of a whole run."""
    return steps_per_epoch(config, dataset) * config.train.epochs


def training_task(config: Config, model: nn.Module, num_classes: int, steps: int) -> Task:
    """What a run trains: the network with its loss, its mixing of pictures and its optimizer.

    Args:
        config: of the run.
        model: the network.
        num_classes: K.
        steps: optimizer steps of the whole run.
    """
    if config.train.compile:
        task_class(config.task).compile(model)
    return make_task(config, model, num_classes, partial(make_optimizer, total_steps=steps, config=config))


def make_task(config: Config, model: nn.Module, num_classes: int, make_optimizer: MakeOptimizer | None = None) -> Task:
    """The run's task; without an optimizer it can only evaluate."""
    return task_class(config.task).build(config, model, num_classes, make_optimizer)


def task_class(name: str) -> type[Task]:
    """The class that trains a task."""
    found: type[Task] = loaded(find_task(name).task)
    return found
