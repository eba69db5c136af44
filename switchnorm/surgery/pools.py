"""What pools regions of pictures and is understood: it tells the layers behind it how many each picture has."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from switchnorm.layers.regions import Regions

#: Classes by where they are defined, so that nothing is imported to know them, and the argument that holds the boxes: a
#: list with those of each picture, (K_i, 4), or those of all in one tensor (K, 5) that begin with the picture's index.
#: The first argument are the feature maps, one tensor (N, C, H, W) or several.
POOLS = {
    "torchvision.ops.poolers.MultiScaleRoIAlign": "boxes",
    "torchvision.ops.roi_align.RoIAlign": "rois",
    "torchvision.ops.roi_pool.RoIPool": "rois",
    "torchvision.ops.ps_roi_align.PSRoIAlign": "rois",
    "torchvision.ops.ps_roi_pool.PSRoIPool": "rois",
}

#: Classes that cut maps by such modules alone, and masks otherwise; those of one's own say so by an attribute
#: `regions_by_pools`.
BY_POOLS = {"torchvision.models.detection.roi_heads.RoIHeads"}


def is_pool(module: nn.Module) -> bool:
    """Whether a module pools regions and its calls are understood, also one of a subclass that is called alike."""
    return _call_of(type(module)) is not None


def tell(pool: nn.Module, regions: Regions) -> None:
    """Let a pool tell with each call how many regions each picture has; before that it is `untold`."""
    tells = _Tells(regions)
    tells.key = pool.register_forward_hook(tells, with_kwargs=True).id


def untell(model: nn.Module) -> None:
    """Let no pool of a model tell anything any more."""
    for module in model.modules():
        for key in [key for key, hook in module._forward_hooks.items() if isinstance(hook, _Tells)]:
            del module._forward_hooks[key]
            module._forward_hooks_with_kwargs.pop(key, None)


class _Tells:
    """The forward hook of a pool. An object, so that copies of a model tell their own layers, and pickles have it."""

    def __init__(self, regions: Regions) -> None:
        self.regions = regions
        self.key = -1

    def __setstate__(self, state: dict[str, Any]) -> None:
        # In another process PyTorch would give the key away again, and the next hook of the pool replace this one.
        vars(self).update(state)
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.key + 1)

    def __call__(self, pool: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], pooled: Any) -> None:
        call = _call_of(type(pool))
        if call is None or not isinstance(pooled, Tensor) or torch.jit.is_tracing():
            return
        given = dict(zip(call.arguments, args, strict=False)) | kwargs
        features = given[call.arguments[0]]
        if not isinstance(features, Tensor):
            features = next(iter(features.values() if isinstance(features, dict) else features))
        self.regions.told(given[call.boxes], features.shape[0], pooled)


class _Call(NamedTuple):
    """How a pool is called: the names of its arguments, and that of the boxes."""

    arguments: tuple[str, ...]
    boxes: str


_known: WeakKeyDictionary[type[nn.Module], _Call | None] = WeakKeyDictionary()


def _call_of(cls: type[nn.Module]) -> _Call | None:
    """How the pools of a class are called; None for what is no pool, or called in another way than the one known."""
    if cls not in _known:
        _known[cls] = _found_call(cls)
    return _known[cls]


def _found_call(cls: type[nn.Module]) -> _Call | None:
    for base in cls.__mro__:
        boxes = POOLS.get(f"{base.__module__}.{base.__qualname__}")
        if boxes is not None:
            arguments = (*inspect.signature(cls.forward).parameters,)[1:]
            return _Call(arguments, boxes) if boxes in arguments[1:] else None
    return None
