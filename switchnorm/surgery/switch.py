"""Switching the normalization of a model that somebody else wrote."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.layers.registry import WS_CONV, Spec
from switchnorm.surgery.convert import Recipe, check_options
from switchnorm.surgery.graph import Wiring, wire
from switchnorm.surgery.kinds import class_dims, conv_refusal, is_norm, norm_refusal
from switchnorm.surgery.plan import Change, Left, SwitchPlan, describe
from switchnorm.surgery.select import Choice, Selection


def switch(
    model: nn.Module,
    spec: str | Spec,
    *,
    include: Choice | None = None,
    exclude: Choice | None = None,
    **options: Any,
) -> nn.Module:
    """Switch the normalization of `model` in place: `plan_switch` and its `apply`, with the same arguments.

    Returns:
        The model, or the new layer if the model is a single normalization. A model without a normalization to switch
        is returned as it is, so that switching twice is no mistake; `plan_switch` tells.

    Raises:
        InputError: as `plan_switch`, before anything has changed.
    """
    return plan_switch(model, spec, include=include, exclude=exclude, **options).apply()


def plan_switch(
    model: nn.Module,
    spec: str | Spec,
    *,
    include: Choice | None = None,
    exclude: Choice | None = None,
    **options: Any,
) -> SwitchPlan:
    """Decide how the normalization of `model` switches, and change nothing.

    Replaced are torch's batch, instance and group normalizations, this library's layers, frozen batch normalizations
    as of torchvision, and subclasses of these that only add an activation, as timm's. A new layer takes over the very
    parameters and buffers (affine parameters; running statistics and mixing logits where both keep them), eps,
    momentum, ghost, sync and statistics where both know them, training mode and hooks. With "+ws", convolutions whose
    output reaches a normalization through linear or positively homogeneous operations alone get standardized weights.

    Args:
        model: any model; modules may have several names and share parameters.
        spec: "bn", "gn", "gn:G", "in", "ln", "sn" or "ssn"; each also with "+ws".
        include, exclude: which normalizations and convolutions: a glob over names, a sequence of globs, or a predicate
            of name and module.
        options: arguments of the new layers, such as `statistics` or `momentum`.

    Raises:
        InputError: an unknown spec or option, a pattern that matches nothing, or a setting that a layer cannot have,
            such as groups that do not divide its channels.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a TorchScript module cannot be changed; switch the model before it is scripted")
    spec = Spec.parse(spec) if isinstance(spec, str) else spec
    check_options(spec, options)
    return _Planner(model, spec, Selection(include, exclude, _layer_names(model)), options).plan()


def _layer_names(model: nn.Module) -> list[str]:
    named = model.named_modules(remove_duplicate=False)
    return [name for name, module in named if is_norm(module) or isinstance(module, _ConvNd)]


class _Planner:
    """Takes the layers of one model one by one into a plan."""

    def __init__(self, model: nn.Module, spec: Spec, selection: Selection, options: dict[str, Any]) -> None:
        self.model = model
        self.spec = spec
        self.selection = selection
        self.options = options
        self.result = SwitchPlan(model, spec)
        self.names: defaultdict[nn.Module, list[str]] = defaultdict(list)
        for name, module in model.named_modules(remove_duplicate=False):
            self.names[module].append(name)

    @cached_property
    def wiring(self) -> Wiring:
        """How the layers are connected; looked up only where the plan depends on it."""
        found = wire(self.model)
        self.result.wiring = found.method
        return found

    def plan(self) -> SwitchPlan:
        for module in self.names:
            if is_norm(module):
                self.take_norm(module)
            elif isinstance(module, _ConvNd):
                self.take_conv(module)
        return self.result

    def take_norm(self, norm: nn.Module) -> None:
        reason = norm_refusal(norm) or self.selection.refusal(self.names[norm], norm)
        if reason:
            return self.leave(norm, reason)
        dims, flat, why = self.input_of(norm)
        try:
            recipe = Recipe.replacing(norm, self.spec, dims, flat, self.options)
        except InputError as error:
            raise InputError(f"layer {self.names[norm][0]!r}: {error}") from None
        if recipe.describes(norm):
            return self.leave(norm, f"already {Spec(self.spec.norm, self.spec.groups)}")
        self.result._norms[norm] = recipe
        self.change(norm, describe(recipe.blank("meta")), why)

    def input_of(self, norm: nn.Module) -> tuple[int, bool, str]:
        """Spatial dimensions of a layer's input, whether it is flat, and in words how that is known."""
        dims = class_dims(norm)
        if self.spec.norm in ("gn", "in", "ln"):
            return dims or 2, False, "a normalization"
        may_be_flat = isinstance(norm, nn.BatchNorm1d) and self.spec.norm in ("sn", "ssn")
        if dims is not None and not may_be_flat:
            return dims, False, f"{dims}d by its class"
        source = self.wiring.sources.get(norm)
        if source is None:
            return dims or 2, False, f"{dims}d by its class" if dims else "2d for want of a convolution"
        flat = isinstance(source, nn.Linear)
        if isinstance(source, _ConvNd):
            dims = dims or len(source.kernel_size)
        return dims or 1, flat, f"{'flat' if flat else f'{dims}d'} after {self.names[source][0]}"

    def take_conv(self, conv: _ConvNd) -> None:
        if not self.spec.ws:
            if isinstance(conv, tuple(WS_CONV.values())):
                self.leave(conv, "stays standardized")
            return
        reason = conv_refusal(conv) or self.selection.refusal(self.names[conv], conv)
        if reason:
            return self.leave(conv, reason)
        norm = self.wiring.feeds.get(conv)
        if norm is None:
            return self.leave(conv, "does not feed a normalization")
        self.result._convs.append(conv)
        self.change(conv, describe(conv, WS_CONV[len(conv.kernel_size)]), f"feeds {self.names[norm][0]}")

    def change(self, module: nn.Module, after: str, reason: str) -> None:
        self.result.changes.append(Change(tuple(self.names[module]), describe(module), after, reason))

    def leave(self, module: nn.Module, reason: str) -> None:
        self.result.left.append(Left(tuple(self.names[module]), describe(module), reason))
