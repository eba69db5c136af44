"""Batch-Channel Normalization (BCN) in its form for micro-batches, which has no use for a large batch.

Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", arXiv 1903.10520v2.
Their method is "bcn+ws".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.layers.arguments import check_dtype
from switchnorm.layers.evaluated import Evaluated, Mixture, affine_of, batch_normalization, exact, pool_of
from switchnorm.layers.folding import plain_eps
from switchnorm.layers.norms.group import default_groups
from switchnorm.layers.printing import changed_arguments
from switchnorm.layers.registry import Norm, register
from switchnorm.layers.running import RunningStatistics, Sync, process_group, update_running
from switchnorm.layers.unbatched import is_one_sample, one_sample
from switchnorm.ops import normalize
from switchnorm.ops.moments import moments
from switchnorm.ops.normalize import Activation, check_activation
from switchnorm.ops.statistics import batched, check_groups, synchronised


class BatchChannelNorm(RunningStatistics):
    """What the layers for 1, 2 and 3 spatial dimensions share; use `BatchChannelNorm1d`, `2d` or `3d`.

    For every channel c of x, with estimates m and v of its mean and variance, and then every sample and group g of
    adjacent channels, with the mean and population variance of what the first line gives:

        z = weight_c * (x - m_c) / sqrt(v_c + eps) + bias_c
        y = channel_weight_g * (z - mean_g) / sqrt(var_g + eps) + channel_bias_g

    In training the batch first moves the estimates, at the rate `momentum`: m towards its mean over samples and map, v
    towards the mean of (x - m)² for m as it was before. Both are constants to the gradient. All of this is the paper's
    algorithm for micro-batches, also that the second scale and shift are one per group, and that v is about m. The
    number of groups is left to who uses it; by default this library takes that of "gn".

    With `momentum=None`, the average over all batches since the last reset, there is no earlier estimate to rely on,
    and v is the average of the variances about each batch's own mean.

    Args:
        num_features: C.
        groups: of channels; None for the groups of "gn".
        eps: added to both variances.
        momentum: share of the new batch in the estimates; None averages over all batches since the last reset.
        affine: whether to learn both scales and shifts.
        sync: whether the batch that moves the estimates is that of all processes (or of the given process group).
        activation: as in `SwitchNorm`.
        device, dtype: of parameters and buffers.

    Attributes:
        weight, bias: (C,), of the batch normalization.
        channel_weight, channel_bias: (G,), of the channel normalization.
        running_mean, running_var: buffers (C,), the estimates; `num_batches_tracked`: a counter.

    Raises:
        InputError: groups that do not divide the channels; an unknown activation; in `forward`, an input of other
            dimensions or channels.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    channel_weight: nn.Parameter | None
    channel_bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        groups: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        sync: Sync = False,
        activation: Activation | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.num_features = num_features
        self.num_groups = default_groups(num_features) if groups is None else check_groups(groups, num_features)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.sync = sync
        self.activation = activation
        factory: dict[str, Any] = {"device": device, "dtype": check_dtype(dtype)}
        for prefix, size in (("", num_features), ("channel_", self.num_groups)):
            ones, zeros = torch.ones(size, **factory), torch.zeros(size, **factory)
            self.register_parameter(f"{prefix}weight", nn.Parameter(ones) if affine else None)
            self.register_parameter(f"{prefix}bias", nn.Parameter(zeros) if affine else None)
        self._track(num_features, device, dtype)

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """activation(norm(input) + residual), keeping shape, dtype and memory format of input (N, C, *S)."""
        if is_one_sample(self, input):
            return one_sample(self, input, residual, activation)
        self._check_input(input)
        # Gradient checkpointing runs this again in the backward pass, and must find the estimates as they were used.
        if self.training and (torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1):
            self._update(input.detach())
        running = self.running_mean, self.running_var
        if self.training:
            # Copies, which this step's backward pass reads when the next batch has moved the estimates.
            running = self.running_mean.clone(), self.running_var.clone()
        z = normalize(input, ("batch",), weight=self.weight, bias=self.bias, eps=plain_eps(self), running=running).y
        return normalize(
            z,
            (f"group:{self.num_groups}",),
            weight=self._per_channel(self.channel_weight),
            bias=self._per_channel(self.channel_bias),
            eps=plain_eps(self),
            unbiased=False,
            residual=residual,
            activation=activation or self.activation,
        ).y

    def _per_channel(self, of_groups: Tensor | None) -> Tensor | None:
        """(G,) -> (C,): each group's number for all of its channels."""
        if of_groups is None:
            return None
        return of_groups[:, None].expand(-1, self.num_features // self.num_groups).reshape(-1)

    def _update(self, x: Tensor) -> None:
        """Move the estimates towards a batch; an empty one says nothing, unless other processes filled it."""
        group = process_group(self.sync)
        if x.numel() == 0 and group is None:
            return
        with torch.no_grad():
            mean, var = moments(x)
            found = batched(mean, var) if group is None else synchronised(mean, var, None, group)
            batch_mean, batch_var = found.running_mean, found.running_var
            if self.momentum is not None:
                batch_var = batch_var + (batch_mean - self.running_mean.to(batch_mean.dtype)).square()
            update_running(self, batch_mean, batch_var, empty=x.numel() == 0)

    def extra_repr(self) -> str:
        """Channels and groups, and arguments that differ from their defaults."""
        first = f"{self.num_features}, groups={self.num_groups}, eps={self.eps}, momentum={self.momentum}"
        return first + changed_arguments(self, "affine", "sync", "activation")


class BatchChannelNorm1d(BatchChannelNorm):
    """Batch-Channel Normalization of (N, C) or (N, C, L); arguments as `BatchChannelNorm`."""

    input_dims = (2, 3)


class BatchChannelNorm2d(BatchChannelNorm):
    """Batch-Channel Normalization of (N, C, H, W); arguments as `BatchChannelNorm`."""

    input_dims = (4,)


class BatchChannelNorm3d(BatchChannelNorm):
    """Batch-Channel Normalization of (N, C, D, H, W); arguments as `BatchChannelNorm`."""

    input_dims = (5,)


def _evaluated(layer: BatchChannelNorm) -> Evaluated | str:
    first = batch_normalization(layer)
    if isinstance(first, str):
        return first
    shares = {pool_of(layer.num_groups, layer.num_features): 1.0}
    ones, zeros = affine_of(layer, layer.num_features)
    weight, bias = (layer._per_channel(each) for each in (layer.channel_weight, layer.channel_bias))
    weight = torch.ones_like(ones) if weight is None else exact(weight)
    bias = torch.zeros_like(zeros) if bias is None else exact(bias)
    second = Mixture(shares, shares, None, plain_eps(layer), weight, bias, False, layer.num_features)
    return replace(first, mixture=second)


# No ghost batches: each part would move estimates of its own, of which there is one.
register(
    Norm(
        "bcn",
        {1: BatchChannelNorm1d, 2: BatchChannelNorm2d, 3: BatchChannelNorm3d},
        batch_statistics=True,
        sync=True,
        calibrate=True,
        fuses=True,
        evaluates=_evaluated,
        groups=True,
        scale="channel_weight",
        color="#cd51a3",
        order=7,
    )
)
