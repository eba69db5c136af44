"""Instance-Batch Normalization (IBN-a): instance statistics for half of the channels, batch statistics for the rest.

Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018. Their networks
have it after the first convolution of a residual block in the shallow stages (`include` of a switch), BN elsewhere.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers.arguments import GhostLike, check_dtype, check_ghost, check_whole
from switchnorm.layers.evaluated import OWN_BATCH, Constant, Evaluated, Mixture, affine_of, dims_of, eps_of, exact
from switchnorm.layers.folding import plain_eps
from switchnorm.layers.printing import changed_arguments
from switchnorm.layers.registry import Norm, register
from switchnorm.layers.running import RunningStatistics, Sync, parts_of_batch, process_group, update_running
from switchnorm.layers.unbatched import is_one_sample, one_sample
from switchnorm.ops import normalize
from switchnorm.ops.normalize import Activation, check_activation, check_residual, is_single
from switchnorm.ops.partition import Ghost, in_words


class InstanceBatchNorm(RunningStatistics):
    """What the layers for 1, 2 and 3 spatial dimensions share; use `InstanceBatchNorm1d`, `2d` or `3d`.

    The first channels are normalized as by torch.nn.InstanceNorm, the others as by torch.nn.BatchNorm.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: share of the new batch in the running statistics; None averages over all batches since the last reset.
        affine: whether to learn `weight` and `bias`, (C,).
        track_running_stats: whether to keep running statistics for evaluation; without them evaluation uses those of
            its own batch.
        instance_channels: how many channels take instance statistics; None for half of them, rounded down. Flat inputs
            (N, C) have no such statistic and need 0, which is Batch Normalization.
        ghost, sync, activation: as in `SwitchNorm`.
        device, dtype: of parameters and buffers.

    Attributes:
        running_mean, running_var: buffers of the channels with batch statistics, (C - instance_channels,);
            `num_batches_tracked`: a counter.

    Raises:
        InputError: instance channels that are not among C; `ghost` below 1 or together with `sync`; an unknown
            activation; in `forward`, an input of other dimensions or channels, a flat one where some channels take
            instance statistics, or batch statistics of a single element.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        instance_channels: int | None = None,
        ghost: GhostLike = None,
        sync: Sync = False,
        activation: Activation | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.num_features = num_features
        self.instance_channels = num_features // 2
        if instance_channels is not None:
            self.instance_channels = check_whole(instance_channels, 0, "{} instance channels")
            if self.instance_channels > num_features:
                raise InputError(
                    f"instance_channels {instance_channels} of {num_features}; the nearest valid is {num_features}"
                )
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.ghost = check_ghost(ghost, sync)
        self.sync = sync
        self.activation = activation
        factory: dict[str, Any] = {"device": device, "dtype": check_dtype(dtype)}
        self.weight = nn.Parameter(torch.ones(num_features, **factory)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features, **factory)) if affine else None
        self._track(num_features - self.instance_channels if track_running_stats else None, device, dtype)

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """activation(norm(input) + residual), keeping shape, dtype and memory format of input (N, C, *S)."""
        if is_one_sample(self, input):
            return one_sample(self, input, residual, activation)
        self._check_input(input)
        check_residual(residual, input)
        ghost = parts_of_batch(self, input)
        self._check_elements(input, ghost)
        activation = activation or self.activation
        first = self.instance_channels
        # Parts are laid out as input is, and joined so: what is channels-last for all channels is so for some of them.
        last = input.dim() > 2 and not input.is_contiguous() and input.movedim(1, -1).is_contiguous()
        parts = []
        if first > 0:
            part = self._part(0, first, input, residual, last)
            parts.append(normalize(statistics=("instance",), activation=activation, **part).y)
        if first < self.num_features:
            part = self._part(first, self.num_features, input, residual, last)
            parts.append(self._by_batch(activation, ghost, **part))
        if len(parts) == 1:
            return parts[0]
        # Autocast would look for a common dtype, which they have; the meta device knows no autocast.
        with nullcontext() if input.is_meta else torch.autocast(input.device.type, enabled=False):
            return torch.cat([y.movedim(1, -1) for y in parts], -1).movedim(-1, 1) if last else torch.cat(parts, 1)

    def _part(self, start: int, end: int, x: Tensor, residual: Tensor | None, last: bool) -> dict[str, Any]:
        """The arguments of `normalize` for the channels from `start` to `end`."""
        part: dict[str, Any] = {"eps": plain_eps(self), "unbiased": False}
        for name, t in (("x", x), ("residual", residual)):
            if t is not None and last:
                # Taken from memory as it lies, for the gradient to lie so too.
                t = t.movedim(1, -1)[..., start:end].contiguous().movedim(-1, 1)
            elif t is not None:
                t = t[:, start:end]
            part[name] = t
        for name, p in (("weight", self.weight), ("bias", self.bias)):
            part[name] = None if p is None else p[start:end]
        return part

    def _by_batch(self, activation: Activation | None, ghost: Ghost, x: Tensor, **part: Any) -> Tensor:
        running = None
        if not self.training and self.running_mean is not None and self.running_var is not None:
            running = (self.running_mean, self.running_var)
        group = process_group(self.sync) if self.training else None
        y, batch_mean, batch_var = normalize(
            x, ("batch",), running=running, ghost=ghost, group=group, activation=activation, **part
        )
        # An empty batch says nothing, unless other processes filled it.
        informative = x.numel() > 0 or group is not None
        if self.training and self.track_running_stats and informative:
            assert batch_mean is not None
            assert batch_var is not None
            update_running(self, batch_mean, batch_var, ghost, empty=x.numel() == 0)
        return y

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        if x.dim() == 2 and self.instance_channels > 0:
            raise InputError(
                f"input {tuple(x.shape)} has no instance statistic, which {self.instance_channels} channels take; "
                "construct the layer with instance_channels=0"
            )

    def _check_elements(self, x: Tensor, ghost: Ghost) -> None:
        """Raise `InputError` if batch statistics would be those of a single element."""
        by_batch = self.instance_channels < self.num_features and (self.training or self.running_mean is None)
        group = process_group(self.sync) if self.training else None
        if by_batch and group is None and is_single(x, ghost):
            raise InputError(
                f"batch statistics need more than one element per channel, got input {tuple(x.shape)}"
                f"{in_words(ghost)}; use 2 or more samples"
            )

    def extra_repr(self) -> str:
        """Channels, and arguments that differ from their defaults."""
        first = f"{self.num_features}, instance_channels={self.instance_channels}"
        first += f", eps={self.eps}, momentum={self.momentum}"
        return first + changed_arguments(self, "affine", "track_running_stats", "ghost", "sync", "activation")


class InstanceBatchNorm1d(InstanceBatchNorm):
    """Instance-Batch Normalization of (N, C, L), and with `instance_channels=0` of (N, C)."""

    input_dims = (2, 3)


class InstanceBatchNorm2d(InstanceBatchNorm):
    """Instance-Batch Normalization of (N, C, H, W)."""

    input_dims = (4,)


class InstanceBatchNorm3d(InstanceBatchNorm):
    """Instance-Batch Normalization of (N, C, D, H, W)."""

    input_dims = (5,)


def _uses_batch(layer: InstanceBatchNorm) -> bool:
    return layer.instance_channels < layer.num_features


def _evaluated(layer: InstanceBatchNorm) -> Evaluated | str:
    channels, first = layer.num_features, layer.instance_channels
    weight, bias = affine_of(layer, channels)
    constant = None
    if first < channels:
        if layer.running_mean is None or layer.running_var is None:
            return OWN_BATCH
        tables = (layer.running_mean, layer.running_var, weight[first:], bias[first:])
        mean, var, scale, shift = (exact(table) for table in tables)
        rest = Constant.normalizing(mean, var, eps_of(layer), scale, shift)
        # The first channels as they are.
        same = (torch.zeros_like(weight[:first]), torch.ones_like(weight[:first]), torch.zeros_like(weight[:first]))
        parts = zip(same, (rest.centre, rest.scale, rest.shift), strict=True)
        constant = Constant(*(torch.cat(pair) for pair in parts))
    mixture = None
    if first > 0:
        shares = {"instance": 1.0}
        mixture = Mixture(shares, shares, None, eps_of(layer), weight, bias, False, first)
    return Evaluated(channels, constant, mixture, dims_of(layer), layer.activation)


register(
    Norm(
        "ibn",
        {1: InstanceBatchNorm1d, 2: InstanceBatchNorm2d, 3: InstanceBatchNorm3d},
        batch_statistics=_uses_batch,
        ghost=True,
        sync=True,
        calibrate=True,
        fuses=True,
        evaluates=_evaluated,
        flat={"instance_channels": 0},
        color="#976349",
        order=6,
    )
)
