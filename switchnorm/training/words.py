"""Results in words, as the command line prints them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from switchnorm.training.claim import beside
from switchnorm.training.evaluate import Evaluation
from switchnorm.training.progress import duration
from switchnorm.training.run_folder import RunFolder

_LABELS = {"val_loss": "loss", "val_accuracy": "top-1", "val_accuracy_top5": "top-5"}


def outcome(run: RunFolder, result: Mapping[str, Any]) -> list[str]:
    """A finished run: its result, what it cost, and what others report."""
    record = run.record()
    rate, memory = record.get("images_per_second"), record.get("peak_memory_bytes")
    cost = [
        *([f"{rate:.0f} images/s"] if rate else []),
        *([f"{memory / 2**20:.0f} MiB of memory at most"] if memory else []),
        f"{duration(record['seconds'])} in total",
    ]
    last = run.metrics()[-1]
    accuracies = {name: float(last[name]) for name in ("val_accuracy", "val_accuracy_top5") if last[name]}
    lines = [f"{run.path}: validation accuracy {100 * result['val_accuracy']:.2f} %", f"  {', '.join(cost)}"]
    claim = beside(run.config().claim, accuracies)
    return lines if claim is None else [*lines, f"  {claim}"]


def evaluation(what: str, data: str, found: Evaluation) -> list[str]:
    """What an evaluation found, and what others report."""
    lines = [f"{what} on the {found.pictures} test pictures of {data}"]
    for name, value in found.metrics.items():
        lines.append(
            f"  {_LABELS[name]:6} {100 * value:.2f} %" if "accuracy" in name else f"  {_LABELS[name]:6} {value:.4f}"
        )
    claim = beside(found.claim, found.metrics)
    return lines if claim is None else [*lines, f"  {claim}"]
