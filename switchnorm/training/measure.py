"""How fast a run was, and what it needed."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence

import torch


def steady_rate(metrics: Sequence[Mapping[str, str]]) -> float | None:
    """Images per second: the median over epochs, without the first, which warms up, where there are others.

    Args:
        metrics: the rows of metrics.csv.

    Returns:
        The rate, or None where no epoch was timed.
    """
    rates = [float(row["images_per_second"]) for row in metrics if row["images_per_second"]]
    return round(statistics.median(rates[1:] or rates), 1) if rates else None


def reset_peak_memory() -> None:
    """Reset the peak of the CUDA device's memory; that of the process's own memory cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: torch.device) -> int:
    """The most bytes that tensors took on a CUDA device; elsewhere, the most that the process held in memory so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
