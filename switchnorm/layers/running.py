"""Running statistics, ghost batches and process groups: what every layer with a batch statistic shares."""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from switchnorm.errors import InputError

Sync: TypeAlias = "bool | dist.ProcessGroup"


def process_group(sync: Sync) -> dist.ProcessGroup | None:
    """The processes over which a layer with this `sync` takes its batch statistics; None for its own alone.

    `True` means all processes. As with torch.nn.SyncBatchNorm, a program of one process needs no process group.
    """
    if sync is False or not (dist.is_available() and dist.is_initialized()):
        return None
    group = dist.group.WORLD if sync is True else sync
    return group if group is not None and dist.get_world_size(group) > 1 else None


def check_ghost(ghost: int | None, sync: Sync = False) -> int | None:
    """Return `ghost` if it is None, or at least 1 sample and not together with `sync`; raise `InputError` otherwise."""
    if ghost is not None and ghost < 1:
        raise InputError(f"ghost batches of {ghost} samples are impossible; the nearest valid size is 1")
    if ghost is not None and sync is not False:
        raise InputError("ghost batches and synchronised statistics exclude each other; choose ghost or sync")
    return ghost


def check_momentum(momentum: float | None) -> float | None:
    """Return `momentum`, None or a number in [0, 1], as a float; raise `InputError` for anything else."""
    if momentum is None:
        return None
    if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or math.isnan(momentum):
        raise InputError(f"momentum {momentum!r} is no number in [0, 1]; PyTorch's is 0.1, and None averages")
    if not 0 <= momentum <= 1:
        nearest = 0 if momentum < 0 else 1
        raise InputError(f"momentum {momentum!r} is outside [0, 1]; the nearest valid number is {nearest}")
    return float(momentum)


class RunningStatistics(nn.Module):
    """A layer of (N, C, *S) with running statistics of its channels, or of some of them.

    Attributes:
        input_dims: how many dimensions an input may have, batch and channels among them.
        unbatched_dims: how many a single sample without a batch has, where such is taken; None where it is not.
        running_mean, running_var: buffers, `num_batches_tracked`: a counter; all None where nothing is tracked.
    """

    # A switch sets both where a layer of other classes took more inputs.
    input_dims: tuple[int, ...]
    unbatched_dims: int | None = None
    num_features: int
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def _track(self, channels: int | None, device: Any, dtype: Any) -> None:
        """Make the buffers, for so many channels; None for none."""
        tracked = channels is not None
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.empty(channels or 0, device=device, dtype=dtype) if tracked else None)
        counter = torch.empty((), dtype=torch.long, device=device)
        self.register_buffer("num_batches_tracked", counter if tracked else None)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Forget all batches: running mean 0 and variance 1."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def _check_input(self, x: Tensor) -> None:
        """Raise `InputError` for other dimensions or channels."""
        if x.dim() not in self.input_dims or x.shape[1] != self.num_features:
            dims = " or ".join(f"{d}" for d in self.input_dims)
            raise InputError(
                f"{type(self).__name__} takes {dims} dimensions with {self.num_features} channels, got {tuple(x.shape)}"
            )


class Running(Protocol):
    """A layer with running statistics."""

    momentum: float | None

    @property
    def running_mean(self) -> Tensor | None:
        """(C,)."""

    @property
    def running_var(self) -> Tensor | None:
        """(C,)."""

    @property
    def num_batches_tracked(self) -> Tensor | None:
        """A counter."""


def update_running(module: Running, batch_mean: Tensor, batch_var: Tensor) -> None:
    """Move the running statistics of `module` towards those of a batch; `momentum` None averages over all batches.

    Args:
        module: a layer that has running statistics.
        batch_mean, batch_var: (C,), detached.
    """
    running_mean, running_var, tracked = module.running_mean, module.running_var, module.num_batches_tracked
    assert running_mean is not None
    assert running_var is not None
    assert tracked is not None
    with torch.no_grad():
        tracked.add_(1)
        # A tensor, so that averaging over all batches does not wait for the device.
        share = 1 / tracked.to(batch_mean.dtype) if module.momentum is None else module.momentum
        for running, batch in ((running_mean, batch_mean), (running_var, batch_var)):
            if running.dtype == batch.dtype:
                running.lerp_(batch, share)
            else:
                running.copy_(running.to(batch.dtype).lerp(batch, share))
