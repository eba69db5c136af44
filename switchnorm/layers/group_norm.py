"""Group Normalization with a residual and an activation, by the kernels of this library where they are faster.

Wu and He, "Group Normalization", ECCV 2018.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchnorm.layers.activation import finish, shown
from switchnorm.ops import normalize
from switchnorm.ops.kernels.choice import choose
from switchnorm.ops.normalize import Activation, check_activation


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm with `activation` and a residual as in `SwitchNorm`: activation(norm(x) + residual)."""

    activation: Activation | None = None

    def __init__(self, *args: Any, activation: Activation | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_activation(activation)
        self.activation = activation

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """Normalize (N, C, *S); residual and activation as in `SwitchNorm`."""
        activation = activation or self.activation
        # torch's own kernel for the CPU is the fastest there, that for CUDA is not.
        kernel = choose(input, self.weight, self.bias, residual) if input.is_cuda else None
        # The variance of a single value is 0, and torch refuses groups that have no more.
        single = input.numel() == self.num_groups
        if not single and (kernel is None or kernel.name != "triton"):
            return finish(super().forward(input), residual, activation)
        return normalize(
            input,
            (f"group:{self.num_groups}",),
            weight=self.weight,
            bias=self.bias,
            eps=self.eps,
            unbiased=False,
            residual=residual,
            activation=activation,
        ).y

    def extra_repr(self) -> str:
        """As torch.nn.GroupNorm, and the activation."""
        return super().extra_repr() + shown(self.activation)
