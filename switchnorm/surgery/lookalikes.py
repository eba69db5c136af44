"""What looks like a normalization and is none that switches: by name, by structure, and why it stays."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.layers import has_batch_statistics
from switchnorm.surgery.kinds import is_norm
from switchnorm.surgery.replica import replicated

_NAMED = re.compile(
    r"norm(?!al($|[^i]|i[^sz]))|LRN|\bGRN|ResponseN|InPlaceA?BN|Whiten|^(FRN|LN|GN|IN|BN|ABN|DyT)(\d?d)?$|GlobalResponse",
    re.IGNORECASE,
)
_EPS = ("eps", "epsilon", "variance_epsilon")
_POSITIONS = "it normalizes over the channels at each position, which is no statistic of this library"
_WEIGHTS = "it normalizes weights, not what flows through the network"


def looks_like_norm(module: nn.Module) -> bool:
    """Whether a module that is no known normalization looks like one.

    It does by its class's name, by parameters that are vectors beside an epsilon, or by running statistics. What
    contains a convolution or a known normalization is a block of several layers.
    """
    if is_norm(module) or isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return False
    if _NAMED.search(_name(module)) is None and not _is_scale_with_eps(module) and not has_batch_statistics(module):
        return False
    inner = [m for m in module.modules() if m is not module]
    return not any(isinstance(m, _ConvNd) or is_norm(m) or looks_like_norm(m) for m in inner)


def hooked_norm(module: nn.Module) -> str | None:
    """Why a module stays whose weight an old-style `weight_norm` or `spectral_norm` computes; None for all others."""
    kinds = {type(hook).__name__ for hook in module._forward_pre_hooks.values()} & {"WeightNorm", "SpectralNorm"}
    return f"{min(kinds)} is a hook: {_WEIGHTS}" if kinds else None


def _is_scale_with_eps(module: nn.Module) -> bool:
    own = [p for p in module._parameters.values() if p is not None and p.numel() > 1]
    if not own or not any(isinstance(vars(module).get(name), float) for name in _EPS):
        return False
    return all(max(p.shape) == p.numel() for p in own)


def stays(module: nn.Module) -> str:
    """Why a normalization that stands for no normalizer, or what looks like one, stays as it is."""
    if isinstance(module, torch.jit.ScriptModule):
        return f"a TorchScript {_name(module)} cannot be changed; switch the model before it is scripted"
    return f"{_name(module)} is not a normalization that switches{_because(module)}"


def _name(module: nn.Module) -> str:
    """The name of a module's class, of that which was scripted too."""
    return str(module.original_name) if isinstance(module, torch.jit.ScriptModule) else type(module).__name__


def _because(module: nn.Module) -> str:
    if type(module).__module__ == "torch.nn.utils.parametrizations":
        return f": {_WEIGHTS}"
    shape = getattr(module, "normalized_shape", None)
    if isinstance(shape, tuple) and len(shape) > 1:
        return f": its scale has a number for each place of {tuple(shape)}"
    if isinstance(shape, tuple) or _at_each_position(module):
        return f": {_POSITIONS}"
    return ""


def _at_each_position(module: nn.Module) -> bool:
    """Whether a module's output at a position depends on the channels there alone, and not on their scale."""
    vectors = [p for p in module._parameters.values() if p is not None and p.numel() > 1]
    if not vectors or any(module.children()) or len({p.numel() for p in vectors}) > 1:
        return False
    channels = vectors[0].numel()
    for shape, axis in (((1, channels, 2, 3), 1), ((1, 2, 3, channels), -1)):
        with contextlib.suppress(Exception, SystemExit), replicated(module) as replica, torch.no_grad():
            for inner in replica.root.modules():
                inner._parameters.update({name: _filled(p) for name, p in inner._parameters.items()})
                inner._buffers.update({name: _filled(b) for name, b in inner._buffers.items()})
            x = torch.arange(6.0 * channels).cos().view(shape)
            at = torch.ones(shape).select(axis, 0).flatten().cumsum(0).view_as(x.select(axis, 0)) == 1
            at = at.unsqueeze(axis)
            y, z = (_run(replica.root, given) for given in (x, torch.where(at, 3 * x, x)))
            # With the scale of one position tripled, nothing changes: there by normalizing, elsewhere by independence.
            if y.shape == x.shape and torch.allclose(y, z, 1e-3, 1e-3) and not torch.allclose(y, x, 1e-3, 1e-3):
                return True
    return False


def _run(module: nn.Module, x: Tensor) -> Tensor:
    return module.eval()(x)


def _filled(tensor: Tensor | None) -> Any:
    """A vector of ones in place of one without values."""
    if tensor is None:
        return None
    ones = torch.ones(tensor.shape, dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype)
    return nn.Parameter(ones, requires_grad=False) if isinstance(tensor, nn.Parameter) else ones
