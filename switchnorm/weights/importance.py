"""What the switchable layers of a checkpoint chose, without the network it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.layers.norms.switch import SWITCHABLE
from switchnorm.ops import sparsestmax
from switchnorm.surgery import LayerImportance
from switchnorm.weights.checkpoint import read_checkpoint
from switchnorm.weights.detectors import by_part
from switchnorm.weights.detectron import is_detectron, to_ours
from switchnorm.weights.layout import switchable_prefixes


def file_importance(path: str | Path) -> list[LayerImportance]:
    """The importances of all SN and SSN layers in a checkpoint file, by the statistics that the file names, if it does.

    Layers of published detectors have this library's names, and follow each other from the body to the heads.

    Raises:
        InputError: as `switchnorm.weights.read_state` and `state_importance`.
    """
    file = read_checkpoint(path)
    state = by_part(to_ours(file.state)) if is_detectron(file.state) else file.state
    return state_importance(state, file.metadata.statistics)


def state_importance(state: Mapping[str, Tensor], statistics: Sequence[str] | None = None) -> list[LayerImportance]:
    """The importances of all SN and SSN layers in a state dict, in its order.

    Args:
        state: tensors by key.
        statistics: what the layers mix. A state dict does not say it, so None, or a layer it does not fit, means the
            published layers' defaults: three are instance, layer and batch; two are layer and batch where there are
            running statistics, and instance and layer otherwise; others are called "statistic 1", "statistic 2", ...

    SSN's centre is "support".

    Raises:
        InputError: logits that no layer has.
    """
    return [_layer(state, prefix, statistics) for prefix in switchable_prefixes(state)]


def layer_statistics(
    state: Mapping[str, Tensor], prefix: str, statistics: Sequence[str] | None = None
) -> tuple[str, ...]:
    """What the layer at `prefix` mixes, see `state_importance`."""
    k, tracks_batches = state[f"{prefix}mean_weight"].numel(), f"{prefix}running_mean" in state
    if statistics is not None and len(statistics) == k and tracks_batches == ("batch" in statistics):
        return tuple(statistics)
    if k == 3:
        return SWITCHABLE
    if k == 2:
        return ("layer", "batch") if tracks_batches else ("instance", "layer")
    return tuple(f"statistic {i + 1}" for i in range(k))


def _layer(state: Mapping[str, Tensor], prefix: str, statistics: Sequence[str] | None) -> LayerImportance:
    logits = [_numbers(state, prefix + name) for name in ("mean_weight", "var_weight")]
    if any(z.dim() != 1 or len(z) != len(logits[0]) or not len(z) for z in logits):
        raise InputError(
            f"{prefix}mean_weight and {prefix}var_weight are no logits; expected finite numbers, as many each"
        )
    if f"{prefix}radius" not in state:
        mean, var = (z.softmax(0) for z in logits)
    else:
        radius = _numbers(state, f"{prefix}radius").flatten()
        if len(radius) != 1:
            raise InputError(f"{prefix}radius is no radius; expected one number")
        mean, var = (sparsestmax(z, radius[0], centre="support") for z in logits)
    final = [state.get(prefix + name) for name in ("mean_fixed", "var_fixed")]
    frozen = all(flag is not None and flag.numel() == 1 and bool(flag) for flag in final)
    names = layer_statistics(state, prefix, statistics)
    return LayerImportance(prefix.rstrip("."), names, tuple(mean.tolist()), tuple(var.tolist()), frozen)


def _numbers(state: Mapping[str, Tensor], key: str) -> Tensor:
    """An entry in float64; raises `InputError` where it holds anything but finite real numbers."""
    value = state[key].detach()
    if value.is_complex() or not value.double().isfinite().all():
        raise InputError(f"{key} must hold finite numbers, got {str(value.dtype).removeprefix('torch.')} with others")
    return value.double()
