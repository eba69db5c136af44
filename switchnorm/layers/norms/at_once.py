"""A switchable layer's pass in one call: its tensors as `switchnorm.ops.switched` takes them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from switchnorm.ops.normalize import Activation, check_activation
from switchnorm.ops.partition import Ghost, filled_share, parts
from switchnorm.ops.projection import Moved
from switchnorm.ops.statistics import Table
from switchnorm.ops.switched import switch


def at_once(
    layer: Any,
    x: Tensor,
    statistics: tuple[str, ...],
    running: Table | None,
    ghost: Ghost,
    residual: Tensor | None,
    activation: Activation | None,
) -> Tensor | None:
    """The whole pass as one call, where there is one for it; None where the steps have to be taken."""
    # Past the attributes of modules, which cost a small layer as much as what is done with them.
    held: Any = layer._parameters
    projection = layer._projection()
    if projection is None or (running is None and statistics == ("batch",)):
        return None  # `normalize` refuses a single element per channel
    get = held.get
    mean_logits, var_logits, weight, bias = get("mean_weight"), get("var_weight"), get("weight"), get("bias")
    if mean_logits is None or var_logits is None or (layer.affine and (weight is None or bias is None)):
        return None  # something else makes the parameters, as a parametrization
    moved = None
    if layer.training and layer.track_running_stats:
        get = layer._buffers.get
        mean, var, counter = get("running_mean"), get("running_var"), get("num_batches_tracked")
        if mean is None or var is None or counter is None:
            return None
        share = -1.0 if layer.momentum is None else layer.momentum
        if ghost is not None and share > 0:
            share *= filled_share(ghost)
        moved = Moved(mean, var, counter, share)
    if activation is not None:
        check_activation(activation)
    return switch(
        x,
        layer.statistics,
        mean_logits,
        var_logits,
        projection,
        weight,
        bias,
        layer.__dict__["eps"],  # the plain number, see `switchnorm.layers.folding`
        running,
        moved,
        None if ghost is None else parts(ghost, x.shape[0]),
        residual,
        activation is not None,
    )
