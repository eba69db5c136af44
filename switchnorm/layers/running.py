"""Running statistics and process groups: what every layer with a batch statistic shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers.arguments import Checked, GhostLike
from switchnorm.layers.folding import Unfoldable, guarded_eps
from switchnorm.layers.opaque import Opaque
from switchnorm.layers.overlooked import warn_if_overlooked
from switchnorm.layers.regions import Regions
from switchnorm.ops.normalize import check_input
from switchnorm.ops.partition import Ghost, filled_share, parts
from switchnorm.ops.statistics import NOTHING

Sync: TypeAlias = "bool | dist.ProcessGroup"


def process_group(sync: Sync) -> dist.ProcessGroup | None:
    """The processes over which a layer with this `sync` takes its batch statistics; None for its own alone.

    `True` means all processes. As with torch.nn.SyncBatchNorm, a program of one process needs no process group.
    """
    if sync is False or not (dist.is_available() and dist.is_initialized()):
        return None
    group = dist.group.WORLD if sync is True else sync
    return group if group is not None and dist.get_world_size(group) > 1 else None


class _Parted(Protocol):
    """A layer that takes batch statistics over ghost batches."""

    training: bool

    @property
    def ghost(self) -> GhostLike:
        """As a layer was told."""


def parts_of_batch(layer: _Parted, x: Tensor) -> Ghost:
    """The groups of x (N, C, *S) over which a layer takes its batch statistics; None in evaluation."""
    ghost = layer.ghost if layer.training else None
    if ghost is None:
        return None
    if isinstance(ghost, Regions):
        ghost = ghost.sizes(x)
    # Groups without samples have no statistics, but count for the running ones.
    return ghost if isinstance(ghost, tuple) and 0 in ghost else parts(ghost, x.shape[0])


class RunningStatistics(Opaque, Checked, Unfoldable):
    """A layer of (N, C, *S) with running statistics of its channels, or of some of them.

    Attributes:
        input_dims: how many dimensions an input may have, batch and channels among them.
        unbatched_dims: how many a single sample without a batch has, where such is taken; None where it is not.
        running_mean, running_var: buffers, `num_batches_tracked`: a counter; all None where nothing is tracked.
        eps: added to variances. Other libraries cannot fold with it, see `switchnorm.layers.folding.Eps`.
    """

    eps = guarded_eps()
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

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        """As `torch.nn.Module.named_modules`; warns those who look for Batch Norm alone."""
        if self._buffers.get("running_mean") is not None:
            warn_if_overlooked(self)
        return super().named_modules(*args, **kwargs)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """As `torch.nn.Module.named_children`, and `named_modules`."""
        if self._buffers.get("running_mean") is not None:
            warn_if_overlooked(self)
        return super().named_children()

    def _check_input(self, x: Tensor) -> None:
        """Raise `InputError` for other dimensions or channels, or what is no tensor of real numbers."""
        check_input(x)
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


def update_running(
    module: Running, batch_mean: Tensor, batch_var: Tensor, ghost: Ghost = None, *, empty: bool = False
) -> None:
    """Move the running statistics of `module` towards those of a batch; `momentum` None averages over all batches.

    A group without samples keeps what it had, as a process without samples would, and the mean over the groups moves
    the less for it; but in an average over all batches it does not count.

    Args:
        module: a layer that has running statistics.
        batch_mean, batch_var: (C,), detached; the mean over the groups that have samples.
        ghost: the groups.
        empty: whether this process has no samples; where the others that share its statistics have none either,
            nothing moves.

    Raises:
        InputError: see `not_given`.
    """
    try:
        _move(module, batch_mean, batch_var, filled_share(ghost), empty)
    except RuntimeError as error:
        if not torch._C._are_functorch_transforms_active():
            raise
        raise not_given(module) from error


def not_given(module: object) -> InputError:
    """The error of running statistics that torch.func lets nobody write, since they are no input of its transform."""
    return InputError(
        f"running statistics of {type(module).__name__} cannot be moved under a transform of torch.func that they are "
        "no input of; give it the buffers too, by functional_call, or use eval() or track_running_stats=False"
    )


def _move(module: Running, batch_mean: Tensor, batch_var: Tensor, filled: float, empty: bool) -> None:
    running_mean, running_var, tracked = module.running_mean, module.running_var, module.num_batches_tracked
    assert running_mean is not None
    assert running_var is not None
    assert tracked is not None
    # vmap has no lerp_.
    plain = not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
    with torch.no_grad():
        # A tensor, so that averaging over all batches does not wait for the device.
        share = 1 / (tracked.to(batch_mean.dtype) + 1) if module.momentum is None else module.momentum * filled
        # A tensor too, for the same reason.
        seen = (batch_var != NOTHING).all() if empty else None
        for running, batch in ((running_mean, batch_mean), (running_var, batch_var)):
            if seen is not None:
                batch = torch.where(seen, batch, running.to(batch.dtype))
            if running.dtype == batch.dtype and not plain:
                running.lerp_(batch, share)
            else:
                before = running.to(batch.dtype)
                running.copy_(before + (batch - before) * share)
        tracked.add_(1 if seen is None else seen.to(tracked.dtype))
