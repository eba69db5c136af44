"""What a new normalization takes over from the one in whose place it comes: tensors, hooks and an activation."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from switchnorm.layers import kind_of
from switchnorm.layers.made import made_by
from switchnorm.layers.options import options_of
from switchnorm.surgery.kinds import apply_tail, tail_of
from switchnorm.surgery.tail import as_timms

AFFINE = ("weight", "bias")
LOGITS = ("mean_weight", "var_weight")
RUNNING = ("running_mean", "running_var", "num_batches_tracked")
MIXING = (*LOGITS, "radius", "mean_fixed", "var_fixed")
_HOOKS = (
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook"),
)
#: What a new layer does not take over: those of others are made for the state of the old one.
STATE_HOOKS = (
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name."""
    every = (layer.named_parameters(remove_duplicate=False), layer.named_buffers(remove_duplicate=False))
    return {name: tensor for named in every for name, tensor in named}


def carried(old: nn.Module, new: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of `old` that take the place of those of `new`: the affine ones and running
    statistics, and between layers of one normalizer all, always where the shape is the same.
    """
    mine, theirs = _tensors(old), _tensors(new)
    kinds = [kind_of(layer) for layer in (old, new)]
    norms = [None if kind is None else kind.norm for kind in kinds]
    alike = type(old) is type(new) or (norms[0] is not None and norms[0] is norms[1])
    names = {*AFFINE, *RUNNING, *(mine if alike else ())}
    if getattr(old, "statistics", None) == getattr(new, "statistics", ()):
        names.update(MIXING)
    elif hasattr(old, "statistics"):
        # Logits of other statistics may have the same shape.
        names.difference_update(MIXING)
    return {n: t for n, t in mine.items() if n in names and n in theirs and theirs[n].shape == t.shape}


def leave_out(old: nn.Module, new: nn.Module) -> None:
    """Let `new` have no scale or shift where `old` has none: a layer that can do without both can do without one."""
    for name in AFFINE:
        without = hasattr(old, name) and getattr(old, name) is None and name in new._parameters
        if without and "affine" in options_of(type(new)).names:
            setattr(new, name, None)


def carry_tensors(old: nn.Module, new: Any) -> None:
    """Let `new` have what is `carried`: the very parameters and buffers."""
    for name, value in carried(old, new).items():
        path, _, last = name.rpartition(".")
        owner = new.get_submodule(path)
        if last in owner._buffers:
            owner._buffers[last] = value.detach() if isinstance(value, nn.Parameter) else value
        else:
            # That of a frozen normalization is a buffer.
            parameter = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
            owner.register_parameter(last, parameter)
    if hasattr(new, "affine") and "weight" in new._parameters:
        new.affine = new.weight is not None


def ends_by_itself(layer: nn.Module) -> bool:
    """Whether a fresh layer has a dropout or an activation of its own, as timm's."""
    return hasattr(layer, "act") or hasattr(layer, "drop")


def carry_hooks(old: nn.Module, new: nn.Module) -> None:
    """Hooks, and the dropout and activation that some layers end with, which become one."""
    made = made_by(old)
    for name in _HOOKS:
        # The very dictionaries, so that the handles that were given out still remove their hooks.
        theirs, own = getattr(old, name), getattr(new, name)
        if isinstance(theirs, OrderedDict):
            for key in () if made is None else made.hooks:
                theirs.pop(key, None)
            theirs.update(own)
            for key in reversed(own) if name == "_forward_hooks" else ():
                theirs.move_to_end(key, last=False)
        setattr(new, name, own if theirs is None else theirs)
    if (tail := tail_of(old)) and not ends_by_itself(new):
        new.drop = old.get_submodule("drop") if "drop" in tail else nn.Identity()
        new.act = old.get_submodule(tail[-1])
        if apply_tail not in new._forward_hooks.values():
            # First, for the other hooks have always seen the activation.
            new.register_forward_hook(apply_tail, prepend=True)
        as_timms(new)
