"""Starting, resuming and reading back runs: what the command line and studies do with run folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from switchnorm.config.claim import make_claim
from switchnorm.config.norms import spelled
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.config.schema import Config
from switchnorm.data import Dataset, create_dataset
from switchnorm.errors import InputError
from switchnorm.files import WriteError, write_file
from switchnorm.models import norm_of, parse_norm
from switchnorm.processes import is_first, world_size
from switchnorm.runs.appearance import registered
from switchnorm.runs.checkpoints import checkpoint_of
from switchnorm.runs.classes import class_notes, record_of, run_classes
from switchnorm.runs.folder import RunFolder, free_folder
from switchnorm.signals import Interrupted
from switchnorm.surgery import LayerImportance, importance
from switchnorm.text import say
from switchnorm.training.beginning import begin
from switchnorm.training.build import build_model, prepare
from switchnorm.training.callbacks.divergence import DivergedError
from switchnorm.training.callbacks.interruption import resuming
from switchnorm.training.continuing import adjust, computed_otherwise, find_changes
from switchnorm.training.first_look import first_look
from switchnorm.training.fit import train
from switchnorm.training.optimizer import effective_lr
from switchnorm.training.ownership import existing_run, new_run
from switchnorm.training.pictures import as_expected, as_found
from switchnorm.training.recovery import check_tables, continued_from, make_last, recover_tables
from switchnorm.training.settings import COMPUTED, KEY, changed_settings, computation_changes
from switchnorm.weights import file_importance, load_state, read_checkpoint


def start(
    config: Config, out: Path | None, *, default: Path, command: Sequence[str], quiet: bool = False
) -> tuple[RunFolder, dict[str, Any]]:
    """Train a new run.

    Args:
        config: the configuration.
        out: the run folder; None takes `default`, or a free name after it.
        default: see `out`.
        command: how the run was started, for its record.
        quiet: whether to show no progress.

    Returns:
        The run and its result.

    Raises:
        InputError: anything wrong with the input, before a folder is made; or a folder that is not empty.
    """
    config, pictures = as_expected(config)
    model, dataset = prepare(config)
    config = as_found(config, dataset)
    warm = _begin(model, config, dataset, quiet, pictures)
    path = default if out is None else out
    # Processes of one run must agree on its folder: the first makes it, and none looks for a free name.
    if out is None and world_size() == 1:
        path = free_folder(path)
    begun = {"learning_rate": effective_lr(config), "processes": world_size()}
    facts = {**begun, **_normalizer(config), **record_of(dataset), **warm}
    with new_run(path, config, command, facts) as run, _kept_once_trained(run):
        return run, train(run, config, model, dataset, quiet=quiet)


@contextlib.contextmanager
def _kept_once_trained(run: RunFolder) -> Iterator[None]:
    """Take the folder of a new run away where it ends before anything is trained, as it would only be in the way."""
    try:
        yield
    except (Interrupted, Exception) as error:
        if run.last.is_file():
            if isinstance(error, Interrupted) and not error.said:
                raise Interrupted(error.number, f"continue with `{resuming(run)}`") from None
        elif is_first() and not isinstance(error, DivergedError | WriteError):
            run.clear()
        raise


def _normalizer(config: Config) -> dict[str, Any]:
    """How reports show the normalizer, for the run's record; empty where the network's name does not tell it."""
    norm = config.model.norm or norm_of(config.model.name)
    if norm is None:
        return {}
    shown = spelled(str(parse_norm(norm, config.model.conv)), config.model.norms)
    return {"normalizer": registered(shown).record()}


def resume(
    path: Path,
    flags: Sequence[str] = (),
    *,
    checkpoint: str = "last",
    data_changed: bool = False,
    quiet: bool = False,
) -> tuple[RunFolder, dict[str, Any]]:
    """Continue a run from a checkpoint, or from the start if it was killed before the first one.

    Args:
        path: the run folder.
        flags: where the data lies now, as `--data.root DIR`; the run's configuration is changed once the data that is
            there was found to be the run's.
        checkpoint: "last", or "previous" for the one before, which takes its place.
        data_changed: whether the run goes on with data that has changed, or with another batch size.
        quiet: whether to show no progress.

    Raises:
        InputError: no run, one that is finished or that another process trains; its files do not agree; or other
            classes, data or settings than it was trained with.
    """
    run = RunFolder.open(path)
    with existing_run(run, lambda: _as_it_was(run, flags, checkpoint, data_changed, quiet)) as found:
        config, model, dataset = found
        if not run.last.is_file():
            _begin(model, config, dataset, quiet)
        return run, train(run, config, model, dataset, quiet=quiet)


def _as_it_was(
    run: RunFolder, flags: Sequence[str], which: str, data_changed: bool, quiet: bool
) -> tuple[Config, nn.Module, Dataset]:
    """The configuration, network and data that a run goes on with, found to be what it was trained with.

    The first process writes what goes on otherwise, once nothing can be refused any more.

    Args:
        run: the run, held by the first process.
        which: the checkpoint that it goes on from, "last" or "previous".
        flags, data_changed, quiet: as `resume`.
    """
    source = continued_from(run, which if is_first() else "last")  # the others come when the first has made it the last
    config = read_config(run.config_file, flags)
    checkpoint, changes = None, []
    if source is not None:
        checkpoint, title = source.entries, f"checkpoint {str(source.path)!r}"
        changes += changed_settings(checkpoint.get(KEY), config, title, allowed=data_changed)
    classes = run_classes(run, None if source is None else source.file)
    model, dataset = prepare(config, classes)
    otherwise = computation_changes(_computed(run, checkpoint), config)
    changes += find_changes(run, checkpoint, config, dataset, allowed=data_changed)
    # A claim stays with data that was found to be the same, and not with any other.
    config = replace(config, claim=make_claim() if changes else run.config().claim)
    if source is not None:
        load_state(model, source.file.state, title)  # the trainer loads it too, but would not explain what does not fit
        check_tables(run, source.entries)
    if is_first():
        lines = list(class_notes(dataset, classes, f"run {str(run.path)!r}"))
        lines += first_look(config, dataset) if changes and checkpoint is not None else []
        say(*make_last(run, source), *([] if checkpoint is None else recover_tables(run, checkpoint)))
        lines += adjust(run, checkpoint, config, model, dataset, changes) if changes else []
        if otherwise:
            lines.append(computed_otherwise(run, checkpoint, otherwise))
        lines += ["nothing has changed that --data-changed would be for"] if data_changed and not changes else []
        if flags:
            lines.append(f"{run.config_file} says from now on: {' '.join(flags)}")
        if flags and not changes:  # which `adjust` has written with them
            write_file(run.config_file, to_yaml(config))
        if "data" not in run.record():  # a run from before that was kept knows it from here on
            run.update_record(**record_of(dataset))
        if not quiet:
            say(*lines)
    return config, model, dataset


def _computed(run: RunFolder, checkpoint: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """How a run was computed so far; without a checkpoint that says it only the number of processes is known."""
    if checkpoint is not None and COMPUTED in checkpoint:
        return dict(checkpoint[COMPUTED])
    processes = run.record().get("processes")
    return {} if processes is None else {"processes": processes}


def _begin(model: nn.Module, config: Config, dataset: Dataset, quiet: bool, pictures: str = "") -> dict[str, Any]:
    """Load the weights that a run starts with, look at its data, and print what a start says; for its record."""
    beginning = begin(model, config, pictures, dataset)
    lines = (*beginning.lines, *first_look(config, dataset))
    if is_first() and not quiet:
        say(*lines)
    return beginning.record


def inspect(path: Path) -> list[LayerImportance]:
    """What every switchable layer of a run, or of a checkpoint file, chose.

    Raises:
        InputError: neither a run nor a checkpoint.
    """
    run = RunFolder(path if path.is_dir() else path.parent.parent)
    if not path.is_dir() and not run.config_file.is_file():
        return file_importance(path)
    run = RunFolder.open(run.path)
    config = run.config()
    checkpoint = checkpoint_of(run, "last") if path.is_dir() else path
    file = read_checkpoint(checkpoint)
    classes = run_classes(run, file)
    try:
        count = create_dataset(**config.data).num_classes if classes is None else len(classes.names)
    except InputError:  # a run from before it knew its classes, whose data is gone
        return file_importance(checkpoint)
    model = build_model(config, count)
    load_state(model, file.state, f"checkpoint {str(checkpoint)!r}")
    return importance(model)
