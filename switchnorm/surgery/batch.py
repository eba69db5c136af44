"""Batch statistics of a model: over how many samples, over which processes, and what evaluation uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from switchnorm.errors import InputError
from switchnorm.layers import SwitchNorm
from switchnorm.layers.registry import BATCH
from switchnorm.layers.running import Sync
from switchnorm.layers.switch_norm import check_ghost
from switchnorm.surgery.kinds import batch_sync, norm_refusal
from switchnorm.surgery.switch import plan_switch


def ghost(model: nn.Module, samples: int | None) -> nn.Module:
    """Take batch statistics in training over groups of `samples` consecutive samples, in place.

    torch's BatchNorm layers become this library's, which compute the same without ghost batches. A model without batch
    statistics stays as it is.

    Args:
        model: any model.
        samples: how many samples a GPU would hold; None takes the whole batch again.

    Returns:
        The model, or the new layer if the model is a single normalization.

    Raises:
        InputError: fewer than 1 sample, a layer with synchronised statistics, or one with batch statistics that cannot
            be replaced; before anything has changed.
    """
    check_ghost(samples)
    if samples is None:
        return _set(model, "ghost", None, lambda layer: False)
    for name, layer in _batch_layers(model):
        if batch_sync(layer) is not False:
            raise InputError(
                f"layer {name!r} synchronises its statistics, which excludes ghost; call sync(model, False)"
            )
    return _set(model, "ghost", samples, _is_foreign)


def sync(model: nn.Module, group: Sync = True) -> nn.Module:
    """Take batch statistics in training over the samples of several processes, in place.

    torch's BatchNorm layers become this library's. A model without batch statistics stays as it is.

    Args:
        model: any model.
        group: True for all processes, a process group for these, False for each process alone.

    Returns:
        The model, or the new layer if the model is a single normalization.

    Raises:
        InputError: a layer with ghost batches, or one with batch statistics that cannot be replaced; before anything
            has changed.
    """
    if group is False:
        return _set(model, "sync", False, lambda layer: isinstance(layer, nn.SyncBatchNorm))
    for name, layer in _batch_layers(model):
        if getattr(layer, "ghost", None) is not None:
            raise InputError(f"layer {name!r} has ghost batches, which excludes sync; call ghost(model, None) first")
    return _set(model, "sync", group, _is_foreign)


def freeze_statistics(model: nn.Module) -> None:
    """Let layers with running statistics use these in training too, until somebody calls `train()` on them.

    Scale and shift, and SN's importance, are trained all the same.
    """
    for _, layer in _batch_layers(model):
        if layer.running_mean is not None:
            layer.training = False


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> None:
    """Recompute the running statistics of batch normalizations and SN layers as the average over `batches`.

    This is the "batch average" of the papers. Those layers run in training mode and all others in evaluation mode,
    without gradients; afterwards modes are as before, and after an error statistics too.

    Args:
        model: any model; one without running batch statistics stays as it is.
        batches: inputs, or tuples or lists that begin with them. Each counts the same.
        forward: called with the model and a batch; by default the model is called with the inputs, which are moved to
            its device.

    Raises:
        InputError: no batch at all.
    """
    layers = [layer for _, layer in _batch_layers(model) if layer.running_mean is not None]
    if not layers:
        return
    batches = iter(batches)
    try:
        first = next(batches)
    except StopIteration:
        raise InputError("calibrate needs at least one batch, got none; the statistics are as before") from None
    run = forward or _call
    with _calibrating(model, layers), torch.no_grad():
        for batch in chain((first,), batches):
            run(model, batch)


def _batch_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """The layers with a batch statistic and their names, torch's and ours."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) or (isinstance(module, SwitchNorm) and "batch" in module.statistics)
    ]


def _is_foreign(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and not isinstance(layer, tuple(BATCH.values()))


def _set(model: nn.Module, setting: str, value: Any, replaced: Callable[[nn.Module], bool]) -> nn.Module:
    """Replace the layers with a batch statistic that are `replaced`, then set an attribute of all that have it."""
    for name, layer in _batch_layers(model):
        reason = norm_refusal(layer)
        if reason and replaced(layer):
            raise InputError(f"layer {name!r} cannot take {setting}: {reason}")
    model = plan_switch(model, "bn", include=lambda name, layer: replaced(layer)).apply()
    for _, layer in _batch_layers(model):
        if hasattr(layer, setting):
            setattr(layer, setting, value)
    return model


def _call(model: nn.Module, batch: Any) -> None:
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    model(inputs.to(next(model.buffers()).device) if isinstance(inputs, Tensor) else inputs)


@contextmanager
def _calibrating(model: nn.Module, layers: list[Any]) -> Iterator[None]:
    """Forget the running statistics of `layers`, and let them average over what they see."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    buffers = [buffer for layer in layers for buffer in layer.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    try:
        for module, _ in modes:
            module.training = False
        for layer in layers:
            layer.reset_running_stats()
            layer.training, layer.momentum = True, None
        yield
    except BaseException:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        raise
    finally:
        for module, mode in modes:
            module.training = mode
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
