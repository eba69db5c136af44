"""Batch statistics of a model: over how many samples, over which processes, and what evaluation uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec, has_batch_statistics, kind_of, norm_of
from switchnorm.layers.running import Sync, check_ghost, check_momentum
from switchnorm.surgery.kinds import batch_sync, norm_refusal
from switchnorm.surgery.switch import plan

# Settings of layers, by the field of a registration that says whether its layers obey them.
_WORDS = {"ghost": "ghost batches", "sync": "synchronised statistics", "calibrate": "calibration"}

_CALIBRATED = ("momentum", "reset_running_stats")


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
        InputError: fewer than 1 sample, a layer with synchronised statistics, or one with batch statistics that knows
            no ghost batches and cannot be replaced; before anything has changed.
    """
    check_ghost(samples)
    if samples is None:
        return _set(model, "ghost", None, lambda layer: False)
    _check_support(model, "ghost")
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
        InputError: a layer with ghost batches, or one with batch statistics that cannot be synchronised and cannot be
            replaced; before anything has changed.
    """
    if group is False:
        return _set(model, "sync", False, lambda layer: _is_foreign(layer) and batch_sync(layer) is not False)
    _check_support(model, "sync")
    for name, layer in _batch_layers(model):
        if getattr(layer, "ghost", None) is not None:
            raise InputError(f"layer {name!r} has ghost batches, which excludes sync; call ghost(model, None) first")
    return _set(model, "sync", group, _is_foreign)


def set_momentum(model: nn.Module, momentum: float | None) -> int:
    """Set the momentum of all running statistics, whoever wrote their layers, in place.

    Args:
        model: any model.
        momentum: PyTorch's, the share of the new batch, in [0, 1]; None averages over all batches since the last reset.

    Returns:
        How many layers keep running statistics; 0 where the momentum has no effect.

    Raises:
        InputError: a momentum outside of its range, or a layer that keeps running statistics and has no `momentum`;
            before anything has changed.
    """
    momentum = check_momentum(momentum)
    layers = [(name, module) for name, module in model.named_modules() if _keeps_statistics(module)]
    for name, layer in layers:
        if not hasattr(layer, "momentum"):
            raise InputError(
                f"layer {name!r} cannot take momentum {momentum}: {type(layer).__name__} has running statistics and no "
                "attribute momentum; leave momentum out"
            )
    for _, layer in layers:
        layer.momentum = momentum
    return len(layers)


def freeze_statistics(model: nn.Module) -> None:
    """Let layers with running statistics use these in training too, until somebody calls `train()` on them.

    Scale and shift, and SN's importance, are trained all the same.
    """
    for _, layer in _batch_layers(model):
        if _tracks(layer):
            layer.training = False


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> None:
    """Recompute the running statistics of all layers with batch statistics as the average over `batches`.

    This is the "batch average" of the papers. Those layers run in training mode and all others in evaluation mode,
    without gradients; afterwards modes are as before, and after an error statistics too.

    Args:
        model: any model; one without running batch statistics stays as it is.
        batches: inputs, or tuples or lists that begin with them. Each counts the same.
        forward: called with the model and a batch; by default the model is called with the inputs, which are moved to
            its device.

    Raises:
        InputError: no batch at all, or a layer with batch statistics that does not support it; before anything has
            changed.
    """
    _check_support(model, "calibrate")
    layers = [layer for _, layer in _batch_layers(model) if _tracks(layer)]
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
    """The layers with a batch statistic and their names, whoever wrote them; also those inside of others."""
    return [(name, module) for name, module in model.named_modules() if has_batch_statistics(module)]


def _tracks(layer: nn.Module) -> bool:
    """Whether a layer with a batch statistic has running ones, which others than ours may call as they like."""
    if hasattr(layer, "running_mean"):
        return layer.running_mean is not None
    return next(layer.buffers(recurse=False), None) is not None


def _keeps_statistics(layer: nn.Module) -> bool:
    """Whether training moves running statistics of a layer; torch's Instance Normalization may keep some too."""
    kind = kind_of(layer)
    if kind is not None and kind.frozen:
        return False
    return isinstance(layer._buffers.get("running_mean"), Tensor) or (has_batch_statistics(layer) and _tracks(layer))


def _is_foreign(layer: nn.Module) -> bool:
    """Whether a layer of another library stands for one of ours."""
    kind = kind_of(layer)
    return kind is not None and kind.norm is not None and not kind.own


def _check_support(model: nn.Module, setting: str) -> None:
    """Raise `InputError` for a layer with a batch statistic that knows no ghost batches, synchronisation, ..."""
    for name, layer in _batch_layers(model):
        kind = kind_of(layer)
        reason = None
        if kind is None or kind.norm is None:
            reason = f"{type(layer).__name__} has batch statistics of its own"
        elif kind.own and not getattr(kind.norm, setting):
            reason = f"{kind.norm.name!r} does not support {_WORDS[setting]}"
        elif not kind.own and setting != "calibrate":
            reason = norm_refusal(layer)
        if setting == "calibrate" and not reason and not all(hasattr(layer, part) for part in _CALIBRATED):
            reason = f"{type(layer).__name__} lacks {' or '.join(_CALIBRATED)}"
        if reason:
            raise InputError(f"layer {name!r} cannot take {setting}: {reason}")


def _set(model: nn.Module, setting: str, value: Any, replaced: Callable[[nn.Module], bool]) -> nn.Module:
    """Replace the layers with a batch statistic that are `replaced`, then set an attribute of all that obey it."""
    stand_ins = set()
    for name, layer in _batch_layers(model):
        if not replaced(layer):
            continue
        if reason := norm_refusal(layer):
            raise InputError(f"layer {name!r} cannot take {setting}: {reason}")
        stand_ins.add(_norm_name(layer))
    for norm in sorted(stand_ins):
        chosen = partial(_is_chosen, replaced, norm)
        model = plan(model, Spec(norm), include=chosen, inside=True).apply()
    for _, layer in _batch_layers(model):
        own = norm_of(layer)
        if own is not None and getattr(own, setting):
            setattr(layer, setting, value)
    return model


def _norm_name(layer: nn.Module) -> str:
    kind = kind_of(layer)
    return "" if kind is None or kind.norm is None else kind.norm.name


def _is_chosen(replaced: Callable[[nn.Module], bool], norm: str, name: str, layer: nn.Module) -> bool:
    return has_batch_statistics(layer) and replaced(layer) and _norm_name(layer) == norm


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
