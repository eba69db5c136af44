"""Switching the normalization of a model that somebody else wrote."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.layers import NormLike, Spec, channels_of
from switchnorm.layers.weight_standardized import WS_CONV
from switchnorm.surgery.convert import Replacement
from switchnorm.surgery.graph import Wiring, wire
from switchnorm.surgery.kinds import class_dims, conv_refusal, is_norm, may_be_flat, named_layers, norm_refusal
from switchnorm.surgery.plan import Change, Left, SwitchPlan, describe
from switchnorm.surgery.select import Choice, Selection
from switchnorm.surgery.start import check_start, tied_parameters


def switch(
    model: nn.Module,
    spec: NormLike,
    *,
    start: str = "auto",
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
    return plan_switch(model, spec, start=start, include=include, exclude=exclude, **options).apply()


def plan_switch(
    model: nn.Module,
    spec: NormLike,
    *,
    start: str = "auto",
    include: Choice | None = None,
    exclude: Choice | None = None,
    **options: Any,
) -> SwitchPlan:
    """Decide how the normalization of `model` switches, and change nothing.

    Replaced are the layers of registered normalizers, those that a switch or network made by a class or function,
    torch's batch, instance and group normalizations, frozen batch normalizations as of torchvision, and subclasses of
    these that only add an activation, as timm's. A new layer takes over the very parameters and buffers (affine
    parameters; running statistics and mixing logits where both keep them in the same shape; all of the same shape from
    a layer of the same normalizer), settings such as eps, momentum, ghost, sync and statistics where both know them and
    the registration does not set them, training mode and hooks; what it cannot take over the reason tells. With "+ws",
    convolutions whose output reaches a normalization through linear or positively homogeneous operations alone get
    standardized weights.

    How much of what the network computes stays is decided by `start`, and told for each layer. "equal" gives every
    statistic of new layers the same importance, as networks that are trained from the beginning have it. "source"
    starts them at the importance that the old layer had, all of it on one statistic in most layers, but for small
    shares without which the others' logits would learn nothing; and where running statistics tell how statistics differ
    on average, scale and shift make up for it, also in layers of a single statistic such as "gn" and "ln". "auto" is
    "source" for layers that show signs of training: running statistics of some batch, a scale or shift that differs
    between channels, logits that differ, frozen constants; and "equal" for all others.

    Args:
        model: any model; modules may have several names and share parameters.
        spec: a name of `switchnorm.layers.norm_names()`, such as "sn", "gn:16" or "ssn+ws"; or a class or function,
            which is called as `spec(channels, **options)` and whose layers take over parameters and buffers alone.
        start: "auto", "equal" or "source".
        include, exclude: which normalizations and convolutions: a glob over names, a sequence of globs, or a predicate
            of name and module.
        options: arguments of the new layers, such as `statistics` or `momentum`.

    Raises:
        InputError: an unknown spec, start or option, a pattern that matches nothing, a setting that a layer cannot
            have, such as groups that do not divide its channels, or a class or function that makes no layer.
    """
    return plan(model, Spec.of(spec), start=start, include=include, exclude=exclude, options=options)


def plan(
    model: nn.Module,
    spec: Spec,
    *,
    start: str = "auto",
    include: Choice | None = None,
    exclude: Choice | None = None,
    options: Mapping[str, Any] | None = None,
    inside: bool = False,
) -> SwitchPlan:
    """As `plan_switch`; with `inside` also for normalizations that are part of another."""
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a TorchScript module cannot be changed; switch the model before it is scripted")
    check_start(start)
    options = dict(options or {})
    _check_options(spec, options)
    names = named_layers(model, inside=inside)
    layers = [name for module, all_ in names.items() if is_norm(module) or isinstance(module, _ConvNd) for name in all_]
    return _Planner(model, spec, names, Selection(include, exclude, layers), options, start).plan()


def _check_options(spec: Spec, options: Mapping[str, Any]) -> None:
    """Raise `InputError` for an option that no layer of `spec` takes, or that surgery decides itself."""
    norm = spec.registration
    for dims in norm.layers:
        known = norm.options(dims) if spec.make is None else norm.takes(dims)
        unknown = {name: value for name, value in options.items() if name not in known}
        if not unknown:
            return
    norm.check_options(unknown, known)


class _Planner:
    """Takes the layers of one model one by one into a plan."""

    def __init__(
        self,
        model: nn.Module,
        spec: Spec,
        names: Mapping[nn.Module, list[str]],
        selection: Selection,
        options: Mapping[str, Any],
        start: str,
    ) -> None:
        self.model = model
        self.spec = spec
        self.names = names
        self.selection = selection
        self.options = options
        self.start = start
        self.tied = tied_parameters(model)
        self.result = SwitchPlan(model, spec)

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
            replacement = Replacement.of(
                norm, self.spec, dims, flat, self.options, self.start, self.tied, self.is_fed(norm)
            )
        except InputError as error:
            raise InputError(f"layer {self.names[norm][0]!r}: {error}") from error
        if replacement.changes_nothing():
            return self.leave(norm, f"already {Spec(self.spec.norm, self.spec.groups)}")
        self.result._norms[norm] = replacement
        lost = f"; not carried over: {', '.join(replacement.lost)}" if replacement.lost else ""
        self.change(
            norm, describe(replacement.new, channels=channels_of(norm)), why + lost, replacement.start().function
        )

    def input_of(self, norm: nn.Module) -> tuple[int, bool, str]:
        """Spatial dimensions of a layer's input, whether it is flat, and in words how that is known."""
        dims, new = class_dims(norm), self.spec.registration
        if new.any_dims and not new.flat:
            return dims or 2, False, "a normalization"
        ask = may_be_flat(norm) and bool(new.flat)
        if dims is not None and not ask:
            return dims, False, f"{dims}d by its class"
        source = self.wiring.sources.get(norm)
        if source is None:
            return dims or 2, False, f"{dims}d by its class" if dims else "2d for want of a convolution"
        flat = isinstance(source, nn.Linear)
        if isinstance(source, _ConvNd):
            dims = dims or len(source.kernel_size)
        return dims or 1, flat, f"{'flat' if flat else f'{dims}d'} after {self.names[source][0]}"

    def is_fed(self, norm: nn.Module) -> bool:
        """Whether a convolution before a normalization gets standardized weights."""
        feeds = self.wiring.feeds if self.spec.ws else {}
        return any(fed is norm and self.conv_reason(conv) is None for conv, fed in feeds.items())

    def conv_reason(self, conv: Any) -> str | None:
        """Why the weights of a convolution stay as they are; None where it is not for the convolution itself."""
        return conv_refusal(conv) or self.selection.refusal(self.names[conv], conv)

    def take_conv(self, conv: _ConvNd) -> None:
        if not self.spec.ws:
            if isinstance(conv, tuple(WS_CONV.values())):
                self.leave(conv, "stays standardized")
            return
        reason = self.conv_reason(conv)
        if reason:
            return self.leave(conv, reason)
        norm = self.wiring.feeds.get(conv)
        if norm is None:
            return self.leave(conv, "does not feed a normalization")
        self.result._convs.append(conv)
        self.change(conv, describe(conv, WS_CONV[len(conv.kernel_size)]), f"feeds {self.names[norm][0]}")

    def change(self, module: nn.Module, after: str, reason: str, function: str = "") -> None:
        self.result.changes.append(Change(tuple(self.names[module]), describe(module), after, reason, function))

    def leave(self, module: nn.Module, reason: str) -> None:
        self.result.left.append(Left(tuple(self.names[module]), describe(module), reason))
