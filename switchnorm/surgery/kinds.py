"""Which layers of a model surgery can change, recognised by class or, for other libraries' layers, by structure."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from switchnorm.layers.group_norm import GroupNorm
from switchnorm.layers.registry import BATCH, CONV, SPARSE, SWITCH, WS_CONV
from switchnorm.layers.switch_norm import SwitchNorm
from switchnorm.layers.weight_standardized import fan_in

# Every class that switches, with its number of spatial dimensions where the class tells.
_DIMS: dict[type[nn.Module], int | None] = {
    **{cls: dims for table in (BATCH, SWITCH, SPARSE) for dims, cls in table.items()},
    GroupNorm: None,
    **{nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3, nn.SyncBatchNorm: None},
    **{nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3, nn.GroupNorm: None},
}
#: This library's layers, which end with a residual and an activation where asked to.
OURS = (GroupNorm, *(cls for table in (BATCH, SWITCH, SPARSE) for cls in table.values()))
# torchvision's, timm's and detectron2's: modules without a common base, known by their name and their buffers.
_FROZEN_NAMES = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")
_FROZEN_BUFFERS = {"weight", "bias", "running_mean", "running_var"}


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a normalization, of a kind that switches or of another."""
    return switches(module) or isinstance(module, (_NormBase, nn.LayerNorm, nn.RMSNorm))


def switches(module: nn.Module) -> bool:
    """Whether `module` is of a kind that surgery replaces; `norm_refusal` tells whether this one can be."""
    return _base(module) is not None or _is_frozen(module)


def channels(norm: nn.Module) -> int:
    """The number of channels that a normalization (see `is_norm`) expects."""
    if isinstance(norm, (_NormBase, SwitchNorm)):
        return norm.num_features
    if isinstance(norm, nn.GroupNorm):
        return norm.num_channels
    if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)):
        return norm.normalized_shape[0]
    assert isinstance(norm.weight, Tensor)
    return len(norm.weight)


def class_dims(norm: nn.Module) -> int | None:
    """The number of spatial dimensions that the class of a layer that switches stands for; None where it takes any."""
    base = _base(norm)
    return 2 if base is None else _DIMS[base]


def batch_sync(norm: nn.Module) -> Any:
    """Over which processes a layer takes its batch statistics: False, True (all) or a process group."""
    if isinstance(norm, nn.SyncBatchNorm):
        return norm.process_group or True
    return getattr(norm, "sync", False)


def norm_refusal(norm: nn.Module) -> str | None:
    """Why a normalization cannot be replaced; None where it can."""
    if isinstance(norm, LazyModuleMixin):
        return "lazy and not initialised; run a batch first"
    if not switches(norm):
        return f"{type(norm).__name__} is not a normalization that switches"
    if is_parametrized(norm):
        return "its parameters are parametrized"
    if _own_forward(norm) and not has_tail(norm):
        return f"{type(norm).__name__} has a forward of its own"
    return None


def conv_refusal(conv: _ConvNd) -> str | None:
    """Why the weights of a convolution cannot be standardized from now on; None where they can."""
    if isinstance(conv, tuple(WS_CONV.values())):
        return "already standardized"
    if isinstance(conv, _ConvTransposeNd):
        return "transposed"
    if isinstance(conv, LazyModuleMixin):
        return "lazy and not initialised; run a batch first"
    if is_parametrized(conv):
        return "its parameters are parametrized"
    plain = CONV[len(conv.kernel_size)]
    if _overrides(conv, plain, "forward") or _overrides(conv, plain, "_conv_forward"):
        return f"{type(conv).__name__} has a forward of its own"
    if fan_in(conv) == 1:
        return "a single weight per output cannot be standardized"
    return None


def has_tail(norm: nn.Module) -> bool:
    """Whether a layer ends with a dropout and an activation that it holds, as timm's, or by `apply_tail`."""
    ends = isinstance(getattr(norm, "drop", None), nn.Module) and isinstance(getattr(norm, "act", None), nn.Module)
    return ends and (_own_forward(norm) or apply_tail in norm._forward_hooks.values())


def apply_tail(norm: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Forward hook of a layer that replaces a normalization with activation (timm's): its `drop`, then its `act`."""
    ended: Tensor = norm.get_submodule("act")(norm.get_submodule("drop")(output))
    return ended


def _is_frozen(module: nn.Module) -> bool:
    if type(module).__name__ not in _FROZEN_NAMES or next(module.parameters(recurse=False), None) is not None:
        return False
    return {name for name, _ in module.named_buffers(recurse=False)} == _FROZEN_BUFFERS


def _base(module: nn.Module) -> type[nn.Module] | None:
    """The class that switches that `module` is an instance of."""
    return next((cls for cls in type(module).__mro__ if cls in _DIMS), None)


def _own_forward(norm: nn.Module) -> bool:
    """Whether a layer that switches computes more than its kind does."""
    base = _base(norm)
    # The frozen ones have no base to compare with; those that compute more do so with an activation.
    return hasattr(norm, "act") if base is None else _overrides(norm, base, "forward")


def _overrides(module: nn.Module, base: type[nn.Module], method: str) -> bool:
    """Whether `method` of `module` is another than that of `base`, by its class or on the object itself."""
    return method in vars(module) or getattr(type(module), method) is not getattr(base, method)
