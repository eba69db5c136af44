"""Batch Normalization that also takes its statistics over ghost batches or over processes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchnorm.layers.activation import finish
from switchnorm.layers.printing import changed_arguments
from switchnorm.layers.registry import Norm, register
from switchnorm.layers.running import Sync, check_ghost, process_group, update_running
from switchnorm.layers.unbatched import one_sample
from switchnorm.ops import normalize
from switchnorm.ops.normalize import Activation, check_activation, check_batch


class _GhostBatch(nn.modules.batchnorm._BatchNorm):
    """The forward pass under ghost batches or synchronisation; without them, torch's own."""

    activation: Activation | None = None
    # A switch sets these where a layer of other classes took more inputs; the class tells where they are None.
    input_dims: tuple[int, ...] | None = None
    unbatched_dims: int | None = None

    def __init__(
        self,
        *args: Any,
        ghost: int | None = None,
        sync: Sync = False,
        activation: Activation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_activation(activation)
        self.activation = activation
        self.ghost = check_ghost(ghost, sync)
        self.sync = sync

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        if input.dim() == self.unbatched_dims:
            return one_sample(self, input, residual, activation)
        activation = activation or self.activation
        group = process_group(self.sync)
        if self.training and group is None:
            check_batch(input, self.ghost)
        if not self.training or (self.ghost is None and group is None):
            return finish(super().forward(input), residual, activation)
        self._check_input_dim(input)
        y, batch_mean, batch_var = normalize(
            input,
            ("batch",),
            weight=self.weight,
            bias=self.bias,
            eps=self.eps,
            ghost=self.ghost,
            group=group,
            unbiased=False,
            residual=residual,
            activation=activation,
        )
        if self.track_running_stats and batch_mean is not None and batch_var is not None and (input.numel() or group):
            update_running(self, batch_mean, batch_var)
        return y

    def _check_input_dim(self, input: Tensor) -> None:
        if self.input_dims is None or input.dim() not in self.input_dims:
            super()._check_input_dim(input)

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
        ghost=True,
        sync=True,
        calibrate=True,
        fuses=True,
        baseline=True,
        color="#2b6cb8",
        order=0,
    )
)
