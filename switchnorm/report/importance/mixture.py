"""What layers mix: the weight of each statistic, how settled a layer is, and the average over layers in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from switchnorm.report.common.numbers import counted
from switchnorm.runs.importance import ImportanceRow, LayerWeights

#: A layer mixes means and variances separately: each moment as files name it, and as readers do.
MOMENTS = {"mean": "mean", "var": "variance"}
# So near 1 that only rounding can be between: the layer uses this statistic alone.
_ONE_HOT = 1 - 1e-6


def all_statistics(layers: Iterable[ImportanceRow]) -> list[str]:
    """Every statistic that some layer mixes, in the order of first appearance."""
    return list(dict.fromkeys(statistic for layer in layers for statistic in layer.statistics))


def weights(layer: ImportanceRow, moment: str) -> dict[str, float]:
    """The layer's weights for "mean" or "var", by statistic."""
    return dict(zip(layer.statistics, getattr(layer, moment), strict=True))


def state(layer: ImportanceRow) -> str:
    """In a word, how settled a layer is: frozen, one-hot in both or in one moment, or nothing while it mixes."""
    hard = [MOMENTS[moment] for moment in MOMENTS if max(getattr(layer, moment)) >= _ONE_HOT]
    if layer.frozen:
        return "frozen"
    return "one-hot" if len(hard) == len(MOMENTS) else "".join(f"{moment} one-hot" for moment in hard)


def mixture(layers: Sequence[LayerWeights]) -> str:
    """The average over layers in words, for the reader in a hurry and for the one who cannot see the figure."""
    parts = [f"the {title} relies on {_shares(layers, moment)}" for moment, title in MOMENTS.items()]
    settled = sum(state(layer) == "one-hot" for layer in layers)
    of_all = f"{settled} of {counted(len(layers), 'layer')}"
    choice = f" {of_all} chose a single statistic for the mean and a single one for the variance." if settled else ""
    return f"On average over the layers, {'; '.join(parts)}.{choice}"


def _shares(layers: Sequence[LayerWeights], moment: str) -> str:
    means = {
        statistic: fmean(weights(layer, moment).get(statistic, 0.0) for layer in layers)
        for statistic in all_statistics(layers)
    }
    largest_first = sorted(means.items(), key=lambda item: item[1], reverse=True)
    return _join(f"{100 * mean:.0f}\u00a0% {statistic}" for statistic, mean in largest_first if mean >= 0.005)


def _join(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
