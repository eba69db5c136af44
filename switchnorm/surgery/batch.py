"""Batch statistics of a model: over how many samples, and over which processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec, has_batch_statistics, kind_of, norm_of
from switchnorm.layers.arguments import check_ghost, check_model, check_sync, plain
from switchnorm.layers.regions import Regions
from switchnorm.layers.running import Sync
from switchnorm.surgery.kinds import batch_sync, norm_refusal
from switchnorm.surgery.pools import tell, untell
from switchnorm.surgery.regions import find_regions, ghost_refusal
from switchnorm.surgery.switch import plan

# Settings of layers, by the field of a registration that says whether its layers obey them.
_WORDS = {"ghost": "ghost batches", "sync": "synchronised statistics", "calibrate": "calibration"}

_CALIBRATED = ("momentum", "reset_running_stats")

_NEAREST = (
    "pool them by torchvision.ops.MultiScaleRoIAlign or RoIAlign, switch it to 'gn', leave ghost out, or ask for it in "
    "parts that see pictures, as ghost(model.backbone, 2)"
)


def ghost(model: nn.Module, samples: int | None) -> nn.Module:
    """Take batch statistics in training over groups of `samples` consecutive samples, in place.

    torch's BatchNorm layers become this library's, which compute the same without ghost batches. A model without batch
    statistics stays as it is.

    In the heads of detectors samples are pictures too: a layer that sees regions takes its statistics over all regions
    of a group of pictures, however many these have. Their numbers come from the modules of torchvision.ops that pool
    regions, by a forward hook, with each call. A group without regions takes no part, and keeps its share of the
    running statistics.

    Args:
        model: any model.
        samples: how many samples a GPU would hold; None takes the whole batch again.

    Returns:
        The model, or the new layer if the model is a single normalization.

    Raises:
        InputError: fewer than 1 sample, a layer with synchronised statistics, one that may see regions of pictures
            which something else cuts, or one with batch statistics that knows no ghost batches and cannot be replaced;
            before anything has changed.
    """
    check_model("ghost", model)
    _check_samples(samples)
    check_ghost(samples)
    if samples is None:
        untell(model)
        return _set(model, "ghost", None, lambda layer: False)
    check_support(model, "ghost")
    seen = find_regions(model)
    for each in seen:
        if not each.pools:
            raise InputError(ghost_refusal(each.layers[0], _NEAREST))
    for name, layer in batch_layers(model):
        if batch_sync(layer) is not False:
            raise InputError(
                f"layer {name!r} synchronises its statistics, which excludes ghost; call sync(model, False)"
            )
    model = _set(model, "ghost", samples, _is_foreign)
    untell(model)
    for each in seen:
        regions = Regions(samples)
        for pool in each.pools:
            tell(pool, regions)
        for name in each.layers:
            head: Any = model.get_submodule(name)
            head.ghost = regions
    return model


def _check_samples(samples: object) -> None:
    """Raise `InputError` for the sizes of groups, which no model has in common."""
    if isinstance(plain(samples), (tuple, list, Regions)):
        given = " ".join(repr(samples).split())
        raise InputError(
            f"ghost takes how many samples a group has, got {given:.60}; sizes of groups are for a single layer, as "
            "layer.ghost = (3, 2)"
        )


def sync(model: nn.Module, group: Sync = True) -> nn.Module:
    """Take batch statistics in training over the samples of several processes, in place.

    torch's BatchNorm layers become this library's. A model without batch statistics stays as it is.

    Args:
        model: any model.
        group: True for all processes, a process group for these, False for each process alone.

    Returns:
        The model, or the new layer if the model is a single normalization.

    Raises:
        InputError: no group, a layer with ghost batches, or one with batch statistics that cannot be synchronised and
            cannot be replaced; before anything has changed.
    """
    check_model("sync", model)
    check_sync(group)
    if group is False:
        return _set(model, "sync", False, lambda layer: _is_foreign(layer) and batch_sync(layer) is not False)
    check_support(model, "sync")
    for name, layer in batch_layers(model):
        if getattr(layer, "ghost", None) is not None:
            raise InputError(f"layer {name!r} has ghost batches, which excludes sync; call ghost(model, None) first")
    return _set(model, "sync", group, _is_foreign)


def batch_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """The layers with a batch statistic and their names, whoever wrote them; also those inside of others."""
    return [(name, module) for name, module in model.named_modules() if has_batch_statistics(module)]


def _is_foreign(layer: nn.Module) -> bool:
    """Whether a layer of another library stands for one of ours."""
    kind = kind_of(layer)
    return kind is not None and kind.norm is not None and not kind.own


def check_support(model: nn.Module, setting: str) -> None:
    """Raise `InputError` for a layer with a batch statistic that knows no ghost batches, synchronisation, ..."""
    for name, layer in batch_layers(model):
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
    for name, layer in batch_layers(model):
        if not replaced(layer):
            continue
        if reason := norm_refusal(layer):
            raise InputError(f"layer {name!r} cannot take {setting}: {reason}")
        stand_ins.add(_norm_name(layer))
    for norm in sorted(stand_ins):
        chosen = partial(_is_chosen, replaced, norm)
        model = plan(model, Spec(norm), start="equal", include=chosen, inside=True).apply()
    for _, layer in batch_layers(model):
        own = norm_of(layer)
        if own is not None and getattr(own, setting):
            setattr(layer, setting, value)
    return model


def _norm_name(layer: nn.Module) -> str:
    kind = kind_of(layer)
    return "" if kind is None or kind.norm is None else kind.norm.name


def _is_chosen(replaced: Callable[[nn.Module], bool], norm: str, name: str, layer: nn.Module) -> bool:
    return has_batch_statistics(layer) and replaced(layer) and _norm_name(layer) == norm
