"""What a normalization layer does after normalizing: a residual, then an activation."""

from __future__ import annotations

from torch import Tensor

from switchnorm.ops.kernels.choice import needs_plain_operations
from switchnorm.ops.normalize import Activation, check_activation, check_residual


def finish(y: Tensor, residual: Tensor | None, activation: Activation | None) -> Tensor:
    """activation(y + residual) in the memory of y, which nothing else may need, as `normalize` ends.

    Args:
        y: fresh from a normalization, whose gradient does not read it.
        residual: of y's shape, or None.
        activation: "relu" or None.

    Raises:
        InputError: a residual of another shape, or an unknown activation.
    """
    check_activation(activation)
    check_residual(residual, y)
    if residual is not None:
        # Under torch.vmap a residual may have a dimension more, for which y has no room.
        y = y + residual if needs_plain_operations(residual) else y.add_(residual)
    return y if activation is None else y.relu_()
