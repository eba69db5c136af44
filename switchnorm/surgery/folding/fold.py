"""Folding: a copy of a network for inference in which everything that can be constant is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from switchnorm.errors import InputError
from switchnorm.layers import channels_of, kind_of
from switchnorm.layers.arguments import check_model
from switchnorm.layers.evaluated import Constant, Evaluated
from switchnorm.layers.evaluation import evaluated
from switchnorm.layers.weight_standardized import _WSConv
from switchnorm.surgery.folding.agreement import agrees, is_known
from switchnorm.surgery.folding.forms import form
from switchnorm.surgery.folding.neighbours import Neighbours
from switchnorm.surgery.folding.places import affine, ended, foreign_hooks, placed
from switchnorm.surgery.folding.plan import AFTER, BEFORE, PLAIN, FoldPlan
from switchnorm.surgery.folding.sizes import Maps, check_size, map_sizes
from switchnorm.surgery.folding.weights import Folded, Layer, standardizes_plainly, unstandardized, weight_refusal
from switchnorm.surgery.kinds import has_tail, is_norm, named_layers
from switchnorm.surgery.plan import Change, Left, describe
from switchnorm.surgery.wrapped import wrapper_of


def fold(model: nn.Module, size: int | Sequence[int] | None = None) -> nn.Module:
    """A copy of a network for inference in which everything that can be constant is: `plan_fold` and its `apply`.

    Normalizations by constants go into the convolution or linear layer beside them, standardized weights become plain
    ones, and of every other normalization stays what depends on the input, in its cheapest exact form. The copy
    computes what the network computes in evaluation mode, but for rounding, when it is called as the network is by
    default: what other values of optional arguments would do is not looked at. Layers keep their paths.

    Args:
        model: any network, of whichever library, not changed by this.
        size: of all pictures that the copy will ever see, in pixels: one number, or (height, width). Then some
            normalizations take fewer operations, and those refuse maps of another size (`InputError`); None for
            pictures of any size.

    Returns:
        The copy, in evaluation mode. `plan_fold` tells what became of every layer, and why not more.

    Raises:
        InputError: as `plan_fold`; a model that cannot be copied.
    """
    return plan_fold(model, size).apply()


def plan_fold(model: nn.Module, size: int | Sequence[int] | None = None) -> FoldPlan:
    """Decide what of a network can be constant in inference, and change nothing.

    A normalization by constants is folded into the layer before it if nothing else uses what that layer gives, or else
    into the layer after it where that is exact. Layers with hooks, of which nobody knows what they do with what they
    see, with parametrized or shared weights, or whose calls could not all be seen by symbolic tracing, are left; the
    normalization is then one operation by constants.

    Args:
        model, size: as `fold` takes them.

    Raises:
        InputError: no module; a TorchScript module; one that spreads its parameters over processes, or has no values; a
            size that is none.
    """
    check_model("fold", model)
    sides = check_size(size)
    _check_foldable(model)
    plan = FoldPlan(model, sides)
    names = named_layers(model)
    maps = Maps({}, None, None) if sides is None else map_sizes(model, sides)
    if maps.unknown is not None:
        plan.remarks.append(f"the sizes of maps are not known ({maps.unknown}), so that the copy takes any")
    folding = _Folding(plan, names, Neighbours(model, names), maps)
    for layer in names:
        if is_norm(layer):
            folding.normalization(layer)
        elif isinstance(layer, _WSConv):
            folding.standardized(layer)
    return plan


def _check_foldable(model: nn.Module) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a TorchScript module cannot be changed; fold the model before it is scripted")
    for name, module in model.named_modules():
        if (wrapper := wrapper_of(module)) is not None:
            what = f"part {name!r} of the model" if name else "the model"
            raise InputError(f"{what} is wrapped by {wrapper}, which spreads it over processes; fold the model inside")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if any(cls.__name__ == "DTensor" for cls in type(tensor).__mro__):
            raise InputError(f"{name} is spread over processes (DTensor); gather the state in a model of one process")
        if tensor.is_meta:
            raise InputError(f"{name} is on the meta device and has no values; load weights before folding")


class _Found(NamedTuple):
    """What becomes of a normalization.

    Attributes:
        kind: what it becomes, for counts.
        after: the same of this very layer.
        reason: why it becomes that.
        passes: how often maps are still read or written.
        rest: what is left of its computation; None for nothing.
    """

    kind: str
    after: str
    reason: str
    passes: int
    rest: nn.Module | None


class _Folding:
    """Decides layer by layer."""

    def __init__(
        self,
        plan: FoldPlan,
        names: dict[nn.Module, list[str]],
        neighbours: Neighbours,
        maps: Maps,
    ) -> None:
        self.plan, self.names, self.neighbours, self.maps = plan, names, neighbours, maps

    def normalization(self, norm: nn.Module) -> None:
        """Decide what becomes of a normalization."""
        computed = self._computed(norm)
        found = computed if isinstance(computed, str) else self._become(norm, computed)
        before = _passes(computed)
        self._cost(norm, before, before if isinstance(found, str) else found.passes)
        if isinstance(found, str):
            self._leave(norm, found)
            return
        calls = self.neighbours.seen(norm)
        own = kind_of(norm)
        alone = all(call.alone for call in calls) if calls else own is None or not own.own
        activation = getattr(norm, "activation", None) if own is not None and own.own else None
        self.plan._places[norm] = placed(ended(norm, found.rest, activation, alone=alone), norm, self.plan.model)
        self.plan._kinds[found.kind] += 1
        self.plan.changes.append(Change(tuple(self.names[norm]), describe(norm), found.after, found.reason))

    def standardized(self, conv: Any) -> None:
        """Decide what becomes of a convolution with weight standardization."""
        why = weight_refusal(conv)
        if why is not None and why != "has hooks":
            self._leave(conv, f"it {why}")
        elif not standardizes_plainly(conv):
            self._leave(conv, f"{type(conv).__name__} has a forward of its own")
        elif self.neighbours.may_be_read(conv):
            self._leave(conv, "a forward pass reads its weight past its call, or may")
        else:
            self.plan.folded(conv)
            self.plan._kinds[PLAIN] += 1
            after = describe(conv, unstandardized(type(conv)))
            reason = "its standardized weight is constant"
            self.plan.changes.append(Change(tuple(self.names[conv]), describe(conv), after, reason))

    def _leave(self, layer: nn.Module, reason: str) -> None:
        self.plan.left.append(Left(tuple(self.names[layer]), describe(layer), reason))

    def _cost(self, norm: nn.Module, before: int, after: int) -> None:
        values = None if self.maps.values is None else self.maps.values.get(norm, 0)
        self.plan.cost = self.plan.cost.plus(before, after, values)

    def _computed(self, norm: nn.Module) -> Evaluated | str:
        """What a normalization computes that may become something else; why it may not."""
        refusal = _refusal(norm) or self._call_refusal(norm)
        if refusal is not None:
            return refusal
        computed = evaluated(norm)
        if isinstance(computed, str):
            return computed
        if not is_known(norm) and not agrees(norm, computed):
            return f"{type(norm).__name__} computes something else than its kind, or more"
        return computed

    def _call_refusal(self, norm: nn.Module) -> str | None:
        if self.neighbours.read(norm):
            return "a forward pass reads its parameters past its call"
        for call in self.neighbours.seen(norm):
            if call.x is None or not call.node.args:
                return "it is given no single tensor as its first argument"
        return None

    def _become(self, norm: nn.Module, found: Evaluated) -> _Found | str:
        before = self.neighbours.before(norm, found.channels)
        if found.mixture is None:
            assert found.constant is not None
            return self._constant(norm, found, found.constant, before)
        if (why := self._shape_refusal(norm, found)) is not None:
            return why
        able = not isinstance(before, str)
        chosen = form(found.mixture, able, self.maps.sizes.get(norm))
        taken = [each for each in (found.constant, chosen.constant) if each is not None]
        parts = [chosen.module]
        reason = self._shares(found)
        if taken and not isinstance(before, str):
            layer = self._folded(before)
            for each in taken:
                layer.after(each)
            reason += f"; {self._shown(before)} takes what is constant"
        elif found.constant is not None:
            parts.insert(0, affine(found.constant, found.dims))
            reason += f"; {before}"
        if not taken and _is_native(norm, chosen.module):
            return f"is one operation already ({chosen.name})"
        rest = parts[0] if len(parts) == 1 else nn.Sequential(*parts)
        return _Found(chosen.name, chosen.name, reason, _SCALE * (len(parts) - 1) + _NORMALIZE, rest)

    def _constant(self, norm: nn.Module, found: Evaluated, constant: Constant, before: Layer | str) -> _Found | str:
        """What becomes of a normalization by constants."""
        if not isinstance(before, str):
            self._folded(before).after(constant)
            return _Found(BEFORE, f"part of {self._shown(before)}", self._shares(found), 0, None)
        after: Layer | str = "it ends with an activation"
        if found.ends is None and not has_tail(norm):
            after = self.neighbours.after(norm, constant)
        if not isinstance(after, str):
            self._folded(after).before(constant)
            return _Found(AFTER, f"part of {self._shown(after)}", f"{self._shares(found)}; {before}", 0, None)
        rest = affine(constant, found.dims)
        why = f"{before}; {after}"
        kind = kind_of(norm)
        if kind is not None and kind.base is type(rest) and not has_tail(norm):
            return f"is one operation by constants already: {why}"
        name = f"{type(rest).__name__} by constants"
        return _Found(name, name, why, _SCALE, rest)

    def _folded(self, layer: Layer) -> Folded:
        return self.plan.folded(layer)

    def _shape_refusal(self, norm: nn.Module, found: Evaluated) -> str | None:
        """Why a normalization by its own statistics may be given what its cheaper forms do not take."""
        if self.neighbours.flat(norm):
            return None
        dims = found.dims
        if (spatial := self.neighbours.spatial(norm)) is not None:
            possible = (spatial + 1, spatial + 2)
            dims = possible[1:] if dims is None else tuple(dim for dim in dims if dim in possible)
            # (C, L) of one sample is (N, C) to layers that take these.
            dims = tuple(dim for dim in dims if dim > 2) or dims
        unbatched = _unbatched(norm)
        if dims is not None and unbatched is not None and unbatched in dims:
            return f"it takes single samples of {unbatched} dimensions, which its cheaper forms do not"
        if dims is not None and 2 in dims and max(dims) > 2 and _needs_maps(found):
            return "it takes (N, C) and maps, and nothing shows which it is given"
        return None

    def _shares(self, found: Evaluated) -> str:
        """What a layer normalizes by, in words."""
        if found.mixture is None:
            return "batch statistics, which are constants"
        parts = []
        for moment, shares in (("mean", found.mixture.mean), ("variance", found.mixture.var)):
            named = ", ".join(name if share == 1 else f"{share:.2f} {name}" for name, share in shares.items())
            parts.append((moment, named))
        if parts[0][1] == parts[1][1]:
            return f"mean and variance: {parts[0][1]}"
        return "; ".join(f"{moment}: {named}" for moment, named in parts)

    def _shown(self, module: nn.Module) -> str:
        return self.names[module][0] or "the model"


#: How often maps are read or written to multiply them by constants, and to normalize them by statistics of their own.
_SCALE, _NORMALIZE = 2, 3


def _passes(found: Evaluated | str) -> int:
    """How often a normalization reads or writes maps as it is."""
    if isinstance(found, str) or (found.mixture is not None and found.mixture.first < found.channels):
        return _NORMALIZE  # constants for some channels and statistics for the others are one pass
    return (found.constant is not None) * _SCALE + (found.mixture is not None) * _NORMALIZE


def _refusal(norm: nn.Module) -> str | None:
    """Why a normalization cannot become anything else, whatever is around it; None where it can."""
    if isinstance(norm, LazyModuleMixin):
        return "lazy and not initialised; run a batch first"
    if is_parametrized(norm):
        return "its parameters are parametrized"
    if foreign_hooks(norm):
        return "it has hooks, which see what it computes"
    if channels_of(norm) is None:
        return "nothing tells its channels (num_features, num_channels or a weight of one dimension)"
    return None


def _unbatched(norm: Any) -> int | None:
    """How many dimensions a single sample without a batch has, where a layer takes such."""
    if isinstance(norm, nn.modules.instancenorm._InstanceNorm):
        return int(norm._get_no_batch_dim())
    found: int | None = getattr(norm, "unbatched_dims", None)
    return found


def _needs_maps(found: Evaluated) -> bool:
    """Whether of (N, C) a layer computes something else than of maps."""
    return found.mixture is not None and "instance" in {*found.mixture.mean, *found.mixture.var}


def _is_native(norm: nn.Module, module: nn.Module) -> bool:
    """Whether a layer is torch's own, which computes its statistics in one operation, and so does what would replace
    it.
    """
    kind = kind_of(norm)
    plain = kind is not None and not kind.own and not has_tail(norm)
    return plain and type(module).__name__ == getattr(kind and kind.base, "__name__", "").rstrip("123d")
