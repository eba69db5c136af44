"""Results in words, as the command line prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from switchnorm.config.claim import about, beside
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task
from switchnorm.runs.durations import clock
from switchnorm.runs.folder import RunFolder
from switchnorm.training.evaluate import Evaluation

#: Said wherever a test set is evaluated.
LOSS_NOT_FINITE = "the loss of some test pictures is not finite; what the scores count of these means nothing"


def outcome(run: RunFolder, result: Mapping[str, Any]) -> list[str]:
    """A finished run: its result, what it cost, and what others report."""
    record, config = run.record(), run.config()
    # A record that was lost is made anew of what is known, and how long the run took is not.
    rate, memory, seconds = (record.get(name) for name in ("images_per_second", "peak_memory_bytes", "seconds"))
    cost = [
        *([f"{rate:.{0 if rate >= 10 else 1}f} images/s"] if rate else []),
        *([f"{memory / 2**20:.0f} MiB of memory at most"] if memory else []),
        *([] if seconds is None else [f"{clock(seconds)} in total"]),
    ]
    last = run.metrics()[-1]
    spec = find_task(config.task)
    measured = {metric.column: float(last[metric.column]) for metric in spec.metrics if last[metric.column]}
    lines = [f"{run.path}: {spec.score_title} {100 * result[spec.score.column]:.2f} %"]
    lines += [f"  {', '.join(cost)}"] if cost else []
    if left_out := record.get("steps_left_out"):
        lines.append(f"  {left_out} step{'' if left_out == 1 else 's'} left out, for they were not finite")
    lines += _stopped(record.get("stopped"), config, spec.score.name or spec.score.title)
    claim = beside(about(config.claim, config, record.get("test_pictures")), config.task, measured)
    return lines if claim is None else [*lines, f"  {claim}"]


def _stopped(stopped: Mapping[str, Any] | None, config: Config, score: str) -> list[str]:
    """Why a run ended before its last epoch, and what of SSN's schedule was left."""
    if not stopped:
        return []
    without = f"{stopped['patience']} validation{'' if stopped['patience'] == 1 else 's'}"
    epochs, end = config.train.epochs, config.schedule.radius_end
    lines = [f"  stopped after epoch {stopped['after_epochs']} of {epochs}: {without} without a better {score}"]
    radius = stopped["radius"]
    if radius is not None and radius < 1:
        when = "in the last epoch" if end == 1 else f"after {end:g} of the run"
        lines.append(f"  SSN's radius is {radius:.2f}: it would have been 1 {when}, and all choices final")
    return lines


def evaluation(what: str, found: Evaluation) -> list[str]:
    """What an evaluation found, and what others report."""
    names = find_task(found.dataset.task).titles
    width = max(map(len, names.values()))
    by = found.statistics
    normalized = {
        "running": "",
        "batch": ", normalized by the statistics of each batch",
        "calibrate": f", normalized by statistics over {by.batches} training batches",
    }
    lines = [*([found.expected] if found.expected else []), *found.dataset.unusual(training=False), *found.notes]
    lines.append(f"{what} on the {found.pictures} test pictures of {found.data}{normalized[by.kind]}")
    for column, title in names.items():
        if column in found.metrics:
            value = found.metrics[column]
            said = f"{value:.4f}" if column == "val_loss" else f"{100 * value:.2f} %"
            lines.append(f"  {title:{width}} {said}")
    if not math.isfinite(found.metrics.get("val_loss", 0)):
        lines.append(f"  {LOSS_NOT_FINITE}")
    claim = beside(found.claim, found.dataset.task, found.metrics)
    lines += [] if claim is None else [f"  {claim}"]
    details = found.task.details(found.dataset)
    return [*lines, "", *details] if details else lines
