"""Group Normalization, and with it Layer (1 group) and Instance Normalization (C groups).

Wu and He, "Group Normalization", ECCV 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.layers.activation import finish
from switchnorm.layers.arguments import Checked, check_channels, check_dtype, check_whole
from switchnorm.layers.evaluated import group_normalization
from switchnorm.layers.folding import Unfoldable
from switchnorm.layers.opaque import Opaque
from switchnorm.layers.printing import changed_arguments
from switchnorm.layers.registry import Norm, register
from switchnorm.layers.unbatched import is_one_sample, one_sample
from switchnorm.ops import normalize
from switchnorm.ops.kernels.choice import takes_torch
from switchnorm.ops.normalize import Activation, check_activation, check_group, check_input
from switchnorm.ops.statistics import check_groups
from switchnorm.ops.torchs import channels_last, contiguous, group_norm_is_fast, instance_norm_is_fast


class GroupNorm(Opaque, Checked, Unfoldable, nn.GroupNorm):
    """torch.nn.GroupNorm with `activation` and a residual as in `SwitchNorm`: activation(norm(x) + residual)."""

    activation: Activation | None = None
    unbatched_dims: int | None = None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        activation: Activation | None = None,
        **kwargs: Any,
    ) -> None:
        num_groups = check_groups(check_whole(num_groups, 1, "{} groups"), check_channels(num_channels))
        super().__init__(num_groups, num_channels, eps, affine, device, check_dtype(dtype), **kwargs)
        check_activation(activation)
        self.activation = activation

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """Normalize (N, C, *S); residual and activation as in `SwitchNorm`."""
        check_input(input)
        if is_one_sample(self, input):
            return one_sample(self, input, residual, activation)
        activation = activation or self.activation
        if self.training:
            check_group(input, self.num_groups)
        # The variance of a single value is 0, and torch refuses groups that have no more, or nothing in each map.
        refused = input.numel() in (0, self.num_groups)
        fast = instance_norm_is_fast if self.num_groups == self.num_channels else group_norm_is_fast
        if not refused and takes_torch(input, fast=fast):
            given = contiguous(input)
            y = super().forward(given)
            return finish(y if given is input else channels_last(y), residual, activation)
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
        return super().extra_repr() + changed_arguments(self, "activation")


def default_groups(channels: int) -> int:
    """Group Norm's 32 groups, or the largest count below that divides the channels into groups of two or more."""
    return max((g for g in range(1, 33) if channels % g == 0 and channels // g >= 2), default=1)


def _one_group(channels: int) -> int:
    return 1


def _group_per_channel(channels: int) -> int:
    return channels


def _statistic(layer: nn.GroupNorm) -> str:
    return f"group:{layer.num_groups}"


def _evaluates_by(layer: nn.Module) -> str:
    """The statistic of an Instance Normalization in evaluation: torch's may keep running ones, and uses these."""
    running = getattr(layer, "track_running_stats", False) and layer._buffers.get("running_mean") is not None
    return "batch" if running else "instance"


def _layer(
    count: Callable[[int], int],
    channels: int,
    *,
    groups: int | None = None,
    eps: float = 1e-5,
    affine: bool = True,
    activation: Activation | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> GroupNorm:
    """A layer of `groups`, or else of as many groups as `count` makes of the channels."""
    check_channels(channels)
    found = count(channels) if groups is None else check_groups(groups, channels)
    return GroupNorm(found, channels, eps, affine, device=device, dtype=dtype, activation=activation)


def _all_dims(count: Callable[[int], int]) -> dict[int, Callable[..., GroupNorm]]:
    return dict.fromkeys((1, 2, 3), partial(_layer, count))


register(
    Norm(
        "gn",
        _all_dims(default_groups),
        classes=(GroupNorm,),
        batch_statistics=False,
        statistic=_statistic,
        fuses=True,
        groups=True,
        evaluates=group_normalization,
        baseline=True,
        color="#2fa28b",
        order=1,
    )
)
# Of a flat input each channel is a single value: what there is of a sample is its row.
register(
    Norm(
        "in",
        _all_dims(_group_per_channel),
        statistic=_evaluates_by,
        batch_statistics=False,
        fuses=True,
        evaluates=group_normalization,
        flat={"groups": 1},
        color="#d97706",
        order=2,
    )
)
register(
    Norm(
        "ln",
        _all_dims(_one_group),
        statistic="layer",
        batch_statistics=False,
        fuses=True,
        evaluates=group_normalization,
        color="#b8306b",
        order=3,
    )
)
