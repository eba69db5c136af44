"""What the switchable layers of a checkpoint chose, without the network it belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.layers.switch_norm import SWITCHABLE
from switchnorm.ops import sparsestmax
from switchnorm.surgery import LayerImportance


def state_importance(state: Mapping[str, Tensor]) -> list[LayerImportance]:
    """The importances of all SN and SSN layers in a state dict, in its order.

    A state dict does not name what the layers were built with, so the published layers' defaults are taken: three
    statistics are instance, layer and batch; two are layer and batch where there are running statistics, and instance
    and layer otherwise; any other number is counted. SSN's centre is "support".

    Raises:
        InputError: logits that no layer has.
    """
    prefixes = [key.removesuffix("mean_weight") for key in state if key.endswith("mean_weight")]
    return [_layer(state, prefix) for prefix in prefixes if f"{prefix}var_weight" in state]


def _layer(state: Mapping[str, Tensor], prefix: str) -> LayerImportance:
    logits = [state[prefix + name].detach().double() for name in ("mean_weight", "var_weight")]
    if any(z.dim() != 1 or len(z) != len(logits[0]) or not z.isfinite().all() for z in logits):
        raise InputError(
            f"{prefix}mean_weight and {prefix}var_weight are no logits; expected finite numbers, as many each"
        )
    radius = state.get(f"{prefix}radius")
    if radius is None:
        mean, var = (z.softmax(0) for z in logits)
    else:
        mean, var = (sparsestmax(z, radius.double().flatten()[0], centre="support") for z in logits)
    final = [state.get(prefix + name) for name in ("mean_fixed", "var_fixed")]
    frozen = all(flag is not None and bool(flag) for flag in final)
    statistics = _statistics(len(mean), f"{prefix}running_mean" in state)
    return LayerImportance(prefix.rstrip("."), statistics, tuple(mean.tolist()), tuple(var.tolist()), frozen)


def _statistics(k: int, tracks_batches: bool) -> tuple[str, ...]:
    if k == 3:
        return SWITCHABLE
    if k == 2:
        return ("layer", "batch") if tracks_batches else ("instance", "layer")
    return tuple(f"statistic {i + 1}" for i in range(k))
