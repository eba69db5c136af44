"""Which layers of a model surgery can change, and why it leaves the others."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from switchnorm.layers import channels_of, has_batch_statistics, kind_of
from switchnorm.layers.foreign import process_group_of
from switchnorm.layers.frozen import twin
from switchnorm.layers.kinds import overrides
from switchnorm.layers.made import made_by

_TENSORS = ("weight", "bias", "running_mean", "running_var")


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a normalization, of a kind that switches or of another."""
    return kind_of(module) is not None


def named_layers(model: nn.Module, *, inside: bool = False) -> dict[nn.Module, list[str]]:
    """All modules of a model, in the order of definition, with all their names.

    Args:
        model: any model.
        inside: also what a normalization is made of, which belongs to it.
    """
    names: dict[nn.Module, list[str]] = {}
    hidden: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if any(name.startswith(prefix) for prefix in hidden):
            continue
        names.setdefault(module, []).append(name)
        if not inside and is_norm(module):
            hidden.append(f"{name}." if name else "")
    return names


def class_dims(norm: nn.Module) -> int | None:
    """The number of spatial dimensions that the class of a normalization stands for; None where it takes any."""
    kind = kind_of(norm)
    return None if kind is None else kind.dims


def may_be_flat(norm: nn.Module) -> bool:
    """Whether a normalization by its class may take (N, C), as those of one dimension with batch statistics do."""
    return class_dims(norm) == 1 and has_batch_statistics(norm)


def batch_sync(norm: nn.Module) -> Any:
    """Over which processes a layer takes its batch statistics: False, True (all) or a process group."""
    return getattr(norm, "sync", False) or process_group_of(norm)


def norm_refusal(norm: nn.Module) -> str | None:
    """Why a normalization cannot be replaced; None where it can."""
    kind = kind_of(norm)
    if isinstance(norm, LazyModuleMixin):
        return "lazy and not initialised; run a batch first"
    made = made_by(norm) is not None
    if kind is None or (kind.norm is None and not made):
        return f"{type(norm).__name__} is not a normalization that switches"
    if is_parametrized(norm):
        return "its parameters are parametrized"
    # Without a hook it is a part of what FSDP keeps flat.
    if norm._forward_pre_hooks and any(isinstance(vars(norm).get(name), Tensor) for name in ("weight", "bias")):
        return "its weight is computed by a hook, as of pruning"
    if kind.base is not None and overrides(norm, kind.base, "__call__"):
        return f"{type(norm).__name__} has a __call__ of its own"
    if own_forward(norm) and not has_tail(norm) and not made:
        return f"{type(norm).__name__} has a forward of its own"
    if channels_of(norm) is None:
        return "nothing tells its channels (num_features, num_channels or a weight of one dimension)"
    return None


def tail_of(norm: nn.Module) -> tuple[str, ...]:
    """The names of the modules with which a layer ends; none for a layer that only normalizes.

    These are a dropout and an activation, as in timm's and by `apply_tail`, or an activation alone, as in
    transformers'.
    """
    names = [name for name in ("drop", "act", "activation") if isinstance(norm._modules.get(name), nn.Module)]
    if names == ["activation"]:
        return ("activation",) if _ends_with_activation(norm) else ()
    ended = own_forward(norm) or made_by(norm) is not None or apply_tail in norm._forward_hooks.values()
    return ("drop", "act") if names[:2] == ["drop", "act"] and ended else ()


def has_tail(norm: nn.Module) -> bool:
    """Whether a layer ends with more than a normalization, see `tail_of`."""
    return bool(tail_of(norm))


def _ends_with_activation(norm: Any) -> bool:
    """Whether a subclass computes what its base does, and then its `activation`; looked at by values."""
    kind = kind_of(norm)
    channels, dims = channels_of(norm), class_dims(norm) or 2
    if kind is None or kind.base is None or not own_forward(norm) or channels is None:
        return False
    with (
        contextlib.suppress(Exception),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
    ):  # Others may raise anything.
        twin: Any = copy.deepcopy(norm).float().cpu()
        for tensor in (twin.weight, twin.bias):
            if tensor is not None:
                tensor.copy_(torch.linspace(0.5, 2, channels))
        x = torch.arange(4.0 * channels * 3**dims).mul(0.7).cos().view(4, channels, *[3] * dims)
        # Hooks are not called.
        y, plain, activation = twin.forward(x), kind.base.forward(twin, x), twin.activation
        twin.activation = nn.Identity()
        normalized = torch.allclose(twin.forward(x), plain, 1e-4, 1e-4)
        return normalized and torch.allclose(y, activation.forward(plain), 1e-4, 1e-4)
    return False


def apply_tail(norm: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Forward hook of a layer that replaces a normalization with activation (timm's): its `drop`, then its `act`."""
    ended: Tensor = norm.get_submodule("act")(norm.get_submodule("drop")(output))
    return ended


def own_forward(norm: nn.Module) -> bool:
    """Whether a normalization computes more than its kind does."""
    kind = kind_of(norm)
    # The frozen ones have no base to compare with; those that compute more do so with an activation.
    if kind is None or kind.base is None:
        return hasattr(norm, "act")
    return overrides(norm, kind.base) and not _computes_as(norm, kind.base)


def _computes_as(norm: nn.Module, base: type[nn.Module]) -> bool:
    """Whether a subclass with a forward of its own computes what `base` does, in both modes; looked at by values.

    Not of one with modules inside, nor where the forward is the object's, which may belong to another.
    """
    channels, dims = channels_of(norm), class_dims(norm) or 2
    if norm._modules or "forward" in vars(norm) or channels is None:
        return False
    x = torch.arange(4.0 * channels * 3**dims).mul(0.7).cos().view(4, channels, *[3] * dims)
    held = {**norm._parameters, **norm._buffers}
    values = {name: torch.linspace(0.5, 2, channels) for name in _TENSORS if held.get(name) is not None}
    if held.get("num_batches_tracked") is not None:
        values["num_batches_tracked"] = torch.zeros((), dtype=torch.long)
    if {name for name, tensor in held.items() if tensor is not None} != values.keys():
        return False
    with contextlib.suppress(Exception), torch.no_grad(), torch.random.fork_rng(devices=[]):
        found: list[bool] = []
        for training in (True, False):
            ours, theirs = twin(norm, values, training), twin(norm, values, training)
            same = torch.allclose(type(norm).forward(ours, x.clone()), base.forward(theirs, x.clone()), 1e-5, 1e-6)
            found.append(same and all(map(torch.equal, ours.buffers(), theirs.buffers())))
        return all(found)
    return False
