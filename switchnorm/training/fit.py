"""Training one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from switchnorm.config.schema import Config
from switchnorm.config.task_spec import TaskSpec, find_task, loaded
from switchnorm.data import Dataset
from switchnorm.optim.radius import RadiusShape
from switchnorm.runs.classes import classes_of
from switchnorm.runs.folder import RunFolder
from switchnorm.signals import Ending
from switchnorm.training.build import total_steps, training_batches, training_modes, training_task
from switchnorm.training.callbacks.agreement import Agreement
from switchnorm.training.callbacks.averaging import WeightAverage
from switchnorm.training.callbacks.checkpoints import BestCheckpoint, MidEpochCheckpoint, Snapshots
from switchnorm.training.callbacks.divergence import Divergence
from switchnorm.training.callbacks.graphs import GraphedNetwork
from switchnorm.training.callbacks.history import History
from switchnorm.training.callbacks.interruption import Interruption
from switchnorm.training.callbacks.progress import Progress
from switchnorm.training.callbacks.statistics import Calibration, MeanStatistics
from switchnorm.training.callbacks.steps import Modes, RadiusSchedule, ScaledMomentum, StepSeed
from switchnorm.training.callbacks.stopping import Patience
from switchnorm.training.failures import explained
from switchnorm.training.loaders import Loaders
from switchnorm.training.loggers import run_loggers
from switchnorm.training.measure import peak_memory, reset_peak_memory, steady_rate
from switchnorm.training.settings import COMPUTED, KEY, computation_of, settings_of
from switchnorm.training.sharding import Gathered
from switchnorm.training.trainer import EpochsBegun, count_as_done, make_trainer


def train(run: RunFolder, config: Config, model: nn.Module, dataset: Dataset, *, quiet: bool = False) -> dict[str, Any]:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        run: the folder, which holds the configuration already.
        config: the configuration.
        model, dataset: as `prepare` made them.
        quiet: whether to show no progress.

    Returns:
        The result that the run's record keeps, in [0, 1]: what validation measured at the end, and its score at its
        best; nothing in processes other than the first.

    Raises:
        InputError: the training diverged (`DivergedError`); or what is not of its own making: memory, data, processes.
        Interrupted: a signal asked for the end; what was saved, and how to continue, is said.
    """
    steps, batches = total_steps(config, dataset), len(training_batches(config, dataset))
    task = training_task(config, model, dataset.num_classes, steps)
    task.kept = {**classes_of(dataset).entries(), KEY: settings_of(config), COMPUTED: computation_of(config)}
    spec = find_task(config.task)
    score = spec.score.column
    agreement, ending = Agreement(), Ending()
    divergence = Divergence(run, config.train.on_divergence, agreement)
    patience = [] if config.train.patience is None else [Patience(score, config.train.patience)]
    with (
        ending,
        agreement,
        run_loggers(run, config) as loggers,
        make_trainer(
            config.train,
            max_epochs=config.train.epochs,
            accumulate_grad_batches=config.train.iteration_size,
            gradient_clip_val=config.optimizer.clip_norm,
            callbacks=[
                EpochsBegun(batches, steps // config.train.epochs),
                *step_callbacks(config, steps),
                *_records(run, config, dataset),
                *([] if quiet else [Progress(score)]),
                *patience,
                divergence,
                # What changes or looks at the network as an evaluation begins comes before.
                *([Gathered()] if config.train.strategy == "fsdp" else []),
                *_checkpoints(run, config, score),
                Interruption(run, ending, agreement, divergence),
            ],
            logger=loggers,
            enable_progress_bar=False,
            default_root_dir=run.path,
        ) as trainer,
    ):
        reset_peak_memory()
        last = run.last if run.last.is_file() else None
        if last is None:
            count_as_done(trainer, config.train.start_epoch, batches, steps // config.train.epochs)
        with explained(run, config):
            trainer.fit(task, Loaders(dataset, config), ckpt_path=last)
        memory = peak_memory(trainer.strategy.root_device)
    if not trainer.is_global_zero:
        return {}
    rows = run.metrics()
    result = _result(rows, spec)
    run.update_record(
        status="finished",
        result=result,
        test_pictures=task.counted,
        steps_left_out=divergence.left_out,
        stopped=patience[0].record(rows, config.train.epochs) if patience else None,
        images_per_second=steady_rate(rows),
        peak_memory_bytes=max(memory, run.record().get("peak_memory_bytes") or 0),
    )
    return result


def _checkpoints(run: RunFolder, config: Config, score: str) -> list[pl.Callback]:
    """What writes the run's checkpoints."""
    every = config.train.snapshot_epochs
    return [
        *([] if every is None else [Snapshots(run, every)]),
        BestCheckpoint(run.checkpoints, score),
        ModelCheckpoint(run.checkpoints, "last", enable_version_counter=False, save_on_train_epoch_end=True),
        MidEpochCheckpoint(run.checkpoints, config.train.checkpoint_minutes),
    ]


def _result(rows: Sequence[Mapping[str, str]], spec: TaskSpec) -> dict[str, float]:
    """What the last epoch of metrics.csv measured, and the best score of all."""
    score, last = spec.score.column, rows[-1]
    found = {metric.column: float(last[metric.column]) for metric in spec.metrics if last[metric.column]}
    return {**found, f"best_{score}": max(float(row[score]) for row in rows)}


def radius_shape(config: Config, steps: int) -> RadiusShape:
    """How SSN's radius grows over the optimizer steps of a run."""
    schedule = config.schedule
    return RadiusShape(steps, schedule.radius_start, schedule.radius_end, schedule.radius_power)


def step_callbacks(config: Config, steps: int) -> list[pl.Callback]:
    """What a training step needs around it, in a run as in its rehearsal.

    Args:
        config: of the run.
        steps: optimizer steps of the whole run.
    """
    # The mean of the statistics that are trained comes before the average of weights is put in their place, and what is
    # evaluated is calibrated after.
    callbacks: list[pl.Callback] = [RadiusSchedule(radius_shape(config, steps)), MeanStatistics()]
    if (set_modes := training_modes(config)) is not None:
        callbacks.append(Modes(set_modes))
    if config.optimizer.scale_momentum:
        callbacks.append(ScaledMomentum())
    if config.train.ema is not None:
        callbacks.append(WeightAverage(config.train.ema))
    if config.train.calibrate:
        callbacks.append(Calibration(config.train.calibrate, averaged=config.train.ema is not None))
    if config.train.cuda_graph:
        callbacks.append(GraphedNetwork())
    # Seeding comes last, so that no other callback draws random numbers between it and the step.
    return [*callbacks, StepSeed(config.seed)]


def _records(run: RunFolder, config: Config, dataset: Dataset) -> list[pl.Callback]:
    """What writes the run's tables, and the files that its task adds."""
    spec = find_task(config.task)
    own = loaded(spec.records)
    return [History(run, spec.columns), *([] if own is None else own(run, config, dataset))]
