"""Batch Normalization that also takes its statistics over ghost batches or over processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.layers.activation import finish
from switchnorm.layers.arguments import Checked, GhostLike, check_dtype, check_ghost
from switchnorm.layers.evaluated import batch_normalization
from switchnorm.layers.folding import (
    check_rebuilt,
    ends_with_activation,
    folds_as_batch_norm,
    guarded_eps,
    plain_eps,
)
from switchnorm.layers.opaque import Opaque
from switchnorm.layers.printing import changed_arguments
from switchnorm.layers.registry import Norm, register
from switchnorm.layers.running import Sync, not_given, parts_of_batch, process_group, update_running
from switchnorm.layers.unbatched import is_one_sample, one_sample
from switchnorm.ops import normalize
from switchnorm.ops.kernels.choice import always, needs_plain_operations, takes_torch
from switchnorm.ops.normalize import Activation, check_activation, check_batch, check_input
from switchnorm.ops.torchs import batch_norm_is_exact


class _GhostBatch(Opaque, Checked, nn.modules.batchnorm._BatchNorm):
    """The forward pass under ghost batches or synchronisation; without them, torch's own."""

    # With an activation it is more than a Batch Norm, and folding or rebuilding would lose it.
    eps = guarded_eps(folds_as_batch_norm)
    activation: Activation | None = None
    # A switch sets these where a layer of other classes took more inputs; the class tells where they are None.
    input_dims: tuple[int, ...] | None = None
    unbatched_dims: int | None = None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        ghost: GhostLike = None,
        sync: Sync = False,
        activation: Activation | None = None,
        **kwargs: Any,
    ) -> None:
        check_dtype(dtype)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, **kwargs)
        check_activation(activation)
        self.activation = activation
        self.ghost = check_ghost(ghost, sync)
        self.sync = sync

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        check_input(input)
        if is_one_sample(self, input):
            return one_sample(self, input, residual, activation)
        activation = activation or self.activation
        ghost, group = parts_of_batch(self, input), process_group(self.sync) if self.training else None
        if self.training and group is None:
            check_batch(input, ghost)
        # torch's own reads the counter where momentum is None, which cannot be read on the meta device and in a trace,
        # and counts a batch without samples.
        unlike = input.is_meta or needs_plain_operations(input) or input.numel() == 0
        counts = self.training and self.momentum is None and unlike
        if ghost is None and group is None and not counts:
            exact = batch_norm_is_exact if self.training or not self.track_running_stats else always
            if takes_torch(input, exact=exact):
                return finish(self._torchs(input), residual, activation)
        self._check_input_dim(input)
        running = None
        if not self.training and self.running_mean is not None and self.running_var is not None:
            running = (self.running_mean, self.running_var)
        y, batch_mean, batch_var = normalize(
            input,
            ("batch",),
            weight=self.weight,
            bias=self.bias,
            eps=plain_eps(self),
            running=running,
            ghost=ghost,
            group=group,
            unbiased=False,
            residual=residual,
            activation=activation,
        )
        tracked = self.training and self.track_running_stats
        if tracked and batch_mean is not None and batch_var is not None and (input.numel() or group):
            update_running(self, batch_mean, batch_var, ghost, empty=input.numel() == 0)
        return y

    def _torchs(self, input: Tensor) -> Tensor:
        try:
            return super().forward(input)
        except RuntimeError as error:
            if not (self.training and self.track_running_stats and torch._C._are_functorch_transforms_active()):
                raise
            raise not_given(self) from error

    def _check_input_dim(self, input: Tensor) -> None:
        if self.input_dims is None or input.dim() not in self.input_dims:
            super()._check_input_dim(input)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        if ends_with_activation(self):
            check_rebuilt(self)
        return super().named_children()

    def extra_repr(self) -> str:
        return super().extra_repr() + changed_arguments(self, "ghost", "sync", "activation")


class BatchNorm1d(_GhostBatch, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d with `ghost`, `sync`, `activation` and a residual as in `SwitchNorm`."""


class BatchNorm2d(_GhostBatch, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d with `ghost`, `sync`, `activation` and a residual as in `SwitchNorm`."""


class BatchNorm3d(_GhostBatch, nn.BatchNorm3d):
    """torch.nn.BatchNorm3d with `ghost`, `sync`, `activation` and a residual as in `SwitchNorm`."""


register(
    Norm(
        "bn",
        {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d},
        batch_statistics=True,
        statistic="batch",
        ghost=True,
        sync=True,
        calibrate=True,
        fuses=True,
        evaluates=batch_normalization,
        baseline=True,
        color="#2b6cb8",
        order=0,
    )
)
