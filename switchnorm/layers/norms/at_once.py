"""A switchable layer's pass in one call: its tensors as `switchnorm.ops.switched` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from switchnorm.layers.folding import plain_eps
from switchnorm.ops.normalize import Activation, check_activation
from switchnorm.ops.partition import Ghost, filled_share, parts
from switchnorm.ops.projection import Moved
from switchnorm.ops.statistics import Table
from switchnorm.ops.switched import switch

_AFFINE = {"weight", "bias"}


def at_once(
    layer: Any,
    x: Tensor,
    kept: Sequence[int],
    running: Table | None,
    ghost: Ghost,
    residual: Tensor | None,
    activation: Activation | None,
) -> Tensor | None:
    """The whole pass as one call, where there is one for it; None where the steps have to be taken."""
    # Past the attributes of modules, which cost a small layer as much as what is done with them.
    held: Any = layer._parameters
    buffers: Any = layer._buffers
    projection = layer._projection()
    if projection is None or (running is None and len(kept) == 1 and layer.statistics[kept[0]] == "batch"):
        return None  # `normalize` refuses a single element per channel
    if "mean_weight" not in held or "var_weight" not in held or (layer.affine and not held.keys() >= _AFFINE):
        return None  # something else makes the parameters, as a parametrization
    moved = None
    if layer.training and layer.track_running_stats:
        if layer.momentum is None:
            return None
        mean, var, counter = map(buffers.get, ("running_mean", "running_var", "num_batches_tracked"))
        if mean is None or var is None or counter is None:
            return None
        moved = Moved(mean, var, counter, layer.momentum if ghost is None else layer.momentum * filled_share(ghost))
    if activation is not None:
        check_activation(activation)
    return switch(
        x,
        layer.statistics,
        held["mean_weight"],
        held["var_weight"],
        projection,
        held.get("weight"),
        held.get("bias"),
        plain_eps(layer),
        running,
        moved,
        None if ghost is None else parts(ghost, x.shape[0]),
        residual,
        activation is not None,
    )
