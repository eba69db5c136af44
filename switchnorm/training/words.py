"""Results in words, as the command line prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from switchnorm.tasks.confusion import Scores
from switchnorm.training.claim import beside
from switchnorm.training.evaluate import Evaluation
from switchnorm.training.progress import duration
from switchnorm.training.run_folder import RunFolder
from switchnorm.training.scores import MEASURED, SCORE, TITLES, title


def outcome(run: RunFolder, result: Mapping[str, Any]) -> list[str]:
    """A finished run: its result, what it cost, and what others report."""
    record, config = run.record(), run.config()
    rate, memory = record.get("images_per_second"), record.get("peak_memory_bytes")
    cost = [
        *([f"{rate:.0f} images/s"] if rate else []),
        *([f"{memory / 2**20:.0f} MiB of memory at most"] if memory else []),
        f"{duration(record['seconds'])} in total",
    ]
    last = run.metrics()[-1]
    measured = {name: float(last[name]) for name in MEASURED[config.task] if last[name]}
    score = SCORE[config.task]
    lines = [f"{run.path}: {title(config.task)} {100 * result[score]:.2f} %", f"  {', '.join(cost)}"]
    claim = beside(config.claim, measured)
    return lines if claim is None else [*lines, f"  {claim}"]


def evaluation(what: str, data: str, found: Evaluation) -> list[str]:
    """What an evaluation found, and what others report."""
    names = TITLES[found.task]
    width = max(map(len, names.values()))
    lines = [f"{what} on the {found.pictures} test pictures of {data}"]
    for name in ("val_loss", *MEASURED[found.task]):
        if name in found.metrics:
            value = found.metrics[name]
            shown = f"{value:.4f}" if name == "val_loss" else f"{100 * value:.2f} %"
            lines.append(f"  {names[name]:{width}} {shown}")
    claim = beside(found.claim, found.metrics)
    lines += [] if claim is None else [f"  {claim}"]
    return lines if found.scores is None else [*lines, "", *_by_class(found.classes, found.scores)]


def _by_class(names: Sequence[str], scores: Scores) -> list[str]:
    """IoU, accuracy and share of the pixels of every class, in %."""

    def percent(value: float) -> str:
        return "-" if math.isnan(value) else f"{100 * value:.2f}"

    shares = scores.pixels.double() / scores.pixels.sum()
    width = max(len("class"), *map(len, names))
    lines = [f"  {'class':{width}} {'IoU %':>8} {'accuracy %':>11} {'pixels %':>9}"]
    for name, *values in zip(names, scores.iou.tolist(), scores.accuracy.tolist(), shares.tolist(), strict=True):
        iou, accuracy, share = map(percent, values)
        lines.append(f"  {name:{width}} {iou:>8} {accuracy:>11} {share:>9}")
    return lines
