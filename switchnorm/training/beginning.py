"""What a run begins with: the weights that it starts from, and what is to be said about its configuration."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from torch import nn

from switchnorm.config.schema import Config
from switchnorm.data import Dataset
from switchnorm.errors import AbsentError
from switchnorm.surgery import set_momentum
from switchnorm.surgery.freeze import is_frozen
from switchnorm.surgery.importance import is_sparse, mixing_layers, sparse_layers
from switchnorm.surgery.statistics import chosen_tracking_layers, has_seen, tracking_layers
from switchnorm.training.build import build_model, training_modes
from switchnorm.training.class_rows import ClassRows
from switchnorm.training.optimizer import effective_lr
from switchnorm.training.optimizers import idle_keys
from switchnorm.training.warm_start import warm_start


@dataclass(frozen=True)
class Beginning:
    """How a run begins.

    Args:
        lines: what whoever starts it has to know, a sentence each.
        record: entries of run.json.
    """

    lines: tuple[str, ...]
    record: dict[str, Any] = field(default_factory=dict)


def begin(model: nn.Module, config: Config, pictures: str = "", dataset: Dataset | None = None) -> Beginning:
    """Load the weights that a run starts with, and say what of them fits and which keys have no effect.

    Every way to start a run says these lines: a training, its dry run, and a study, before its first training.

    Args:
        model: the network.
        config: of the run.
        pictures: a line about the pictures that the network expects, see `as_expected`; "" for none.
        dataset: of the run, by whose classes a warm start goes; its data need not be here.

    Raises:
        InputError: weights that cannot be loaded.
    """
    lines, record = [pictures] if pictures else [], {}
    loaded: tuple[str, ...] = ()
    if config.optimizer.lr_per is not None:
        samples = config.train.batch_size * config.train.iteration_size
        lines.append(f"learning rate {effective_lr(config):g} for {samples} samples per step")
    if config.train.warm_start is not None:
        start = config.train.start
        report = warm_start(model, *config.train.start_files, start=start, rows=_class_rows(config, dataset))
        lines.append(str(report))
        record, loaded = {"warm_start": report.record()}, report.matched
    lines += [*_frozen_at_nothing(model, config), *_frozen_at_random(model, loaded), *_idle(model, config)]
    if config.train.start_epoch:
        lines.append(f"training begins with epoch {config.train.start_epoch + 1} of {config.train.epochs}")
    return Beginning(tuple(lines), record)


def _class_rows(config: Config, dataset: Dataset | None) -> ClassRows | None:
    """The classes of the network that is trained; None where only the data knows them, and it is missing."""
    if dataset is None:
        return None
    try:
        names = tuple(dataset.classes)
    except AbsentError:
        return None
    return ClassRows(names, dataset.fixed_classes, partial(build_model, config))


def _idle(model: nn.Module, config: Config) -> Iterator[str]:
    """The keys that change nothing in this run, and why."""
    options = config.model.options
    if "momentum" in options and not set_momentum(model, options["momentum"]):
        yield "model.options.momentum has no effect: no layer keeps running statistics"
    elif "momentum" in options and training_modes(config) is not None:
        yield "model.options.momentum has no effect: running statistics stay as they begin"
    if config.train.calibrate and not tracking_layers(model):
        yield "train.calibrate has no effect: no layer keeps running statistics of batches"
    for key in idle_keys(config.optimizer):
        yield f"{key} has no effect: {config.optimizer.name} takes none"
    if config.optimizer.decay_logits and all(is_sparse(layer) for _, layer in mixing_layers(model)):
        yield "optimizer.decay_logits has no effect: no layer has logits that decay"
    if not sparse_layers(model):
        for key, value, default in _sparse_keys(config):
            if value != default:
                yield f"{key} has no effect: the network has no SSN layer"
    trained = config.train.epochs - config.train.start_epoch
    if (every := config.train.snapshot_epochs) is not None and every > config.train.epochs:
        yield f"train.snapshot_epochs {every} has no effect: the run has {config.train.epochs} epochs"
    if (patience := config.train.patience) is not None and patience >= trained - 1:
        yield f"train.patience {patience} has no effect: {trained} validations are over before it is"


def _sparse_keys(config: Config) -> Iterator[tuple[str, Any, Any]]:
    """The keys that are about SSN's layers alone, their values and their defaults."""
    for name, section in (("optimizer", config.optimizer), ("schedule", config.schedule)):
        for each in fields(section):
            if each.name.startswith(("sparse_", "radius_")):
                yield f"{name}.{each.name}", getattr(section, each.name), each.default


def _frozen_at_nothing(model: nn.Module, config: Config) -> Iterator[str]:
    """A line about layers that are frozen at statistics that have seen no batch, as those of a new decoder; or none."""
    frozen = config.train.frozen_statistics
    chosen = chosen_tracking_layers(model, None if isinstance(frozen, bool) else frozen) if frozen else []
    if frozen and not chosen:
        yield "train.frozen_statistics has no effect: no layer keeps running statistics"
    unseen = [name for name, layer in chosen if not has_seen(layer)]
    if unseen:
        seen = [name for name, layer in chosen if has_seen(layer)]
        other = f"a glob such as {seen[0].partition('.')[0] + '.*'!r}" if seen else "false"
        more = f" and {len(unseen) - 1} more" if len(unseen) > 1 else ""
        yield (
            f"train.frozen_statistics holds for {unseen[0]}{more} too, whose statistics have seen nothing and so "
            f"normalize nothing; {other} leaves them to their batches"
        )


def _frozen_at_random(model: nn.Module, loaded: Container[str]) -> Iterator[str]:
    """A line about frozen parts whose numbers no file has given; or none.

    Args:
        model: the network.
        loaded: the entries of its state dict that a warm start has filled.
    """
    frozen = [(name, module) for name, module in model.named_modules() if is_frozen(module)]
    own = [f"{name}.{key}" for name, module in frozen for key, _ in module.named_parameters(recurse=False)]
    random = [key for key in own if key not in loaded]
    if random:
        more = f" and {len(random) - 1} more" if len(random) > 1 else ""
        yield f"train.freeze keeps {random[0]}{more} as they were initialised: train.warm_start has nothing for them"
