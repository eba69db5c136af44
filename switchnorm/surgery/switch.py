"""Switching the normalization of a model that somebody else wrote."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.layers import NormLike, Spec, channels_of, has_batch_statistics, kind_of
from switchnorm.layers.arguments import check_model
from switchnorm.layers.frozen import frozen_eps
from switchnorm.layers.weight_standardized import WS_CONV
from switchnorm.surgery.convert import Replacement, has_such
from switchnorm.surgery.graph import Wiring, wire
from switchnorm.surgery.inputs import carry_ranks, sees_single_values
from switchnorm.surgery.kinds import class_dims, is_norm, named_layers, norm_refusal
from switchnorm.surgery.lookalikes import hooked_norm, looks_like_norm, stays
from switchnorm.surgery.plan import Change, Left, SwitchPlan, SwitchWarning, describe, fresh_parameters
from switchnorm.surgery.references import unregistered
from switchnorm.surgery.regions import ghost_refusal, region_layers
from switchnorm.surgery.select import Choice, Selection
from switchnorm.surgery.standardize import conv_refusal, conv_remark
from switchnorm.surgery.start import check_start, has_learned, tied_parameters
from switchnorm.surgery.wrapped import wrapped_refusal


def switch(
    model: nn.Module,
    spec: NormLike,
    *,
    start: str = "auto",
    include: Choice | None = None,
    exclude: Choice | None = None,
    **options: Any,
) -> nn.Module:
    """Switch the normalization of `model` in place: `plan_switch` and its `apply`.

    `plan_switch` tells which layers are replaced, what new ones take over, and what each `start` keeps.

    Args:
        model: any model; modules may have several names and share parameters. Optimizers, DDP and the like know the
            parameters that there are when they are made, so they come after the switch.
        spec: a name of `switchnorm.layers.norm_names()`, such as "sn", "gn:16" or "ssn+ws"; or a class or function,
            which is called as `spec(channels, **options)` and whose layers take over parameters and buffers alone.
        start: "auto", "equal" or "source".
        include, exclude: which normalizations and convolutions: a glob over names, a sequence of globs, or a predicate
            of name and module.
        options: arguments of the new layers, such as `statistics` or `momentum`; with `affine=True` those that take the
            place of layers without scale and shift have these.

    Returns:
        The model, or the new layer if the model is a single normalization. A model without anything to switch is
        returned as it is, with a `SwitchWarning`; switching twice is no mistake. Another one says that nothing tells
        whether the model was trained, where "auto" has to choose.

    Raises:
        InputError: as `plan_switch`, before anything has changed.
    """
    plan = plan_switch(model, spec, start=start, include=include, exclude=exclude, **options)
    for said in (plan.nothing_switched(), plan.unsure()):
        if said is not None:
            warnings.warn(said, SwitchWarning, stacklevel=2)
    return plan.apply()


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
    torch's batch, instance and group normalizations, frozen batch normalizations of any library, and subclasses of
    these that only add an activation, as timm's. All else that looks like a normalization, calls of functions
    included, is in the plan with the reason why it stays.

    A new layer takes over the very parameters and buffers (affine
    parameters; running statistics and mixing logits where both keep them in the same shape; all of the same shape from
    a layer of the same normalizer), settings such as eps, momentum, ghost, sync and statistics where both know them and
    the registration does not set them, training mode and hooks; what it cannot take over the reason tells. With "+ws",
    convolutions whose output is seen to reach a normalization through linear or positively homogeneous operations
    alone get standardized weights. Scale and shift of a frozen normalization train if the layer before it does.

    How much of what the network computes stays is decided by `start`, and told for each layer. "equal" gives every
    statistic of new layers the same importance, as networks that are trained from the beginning have it. "source"
    starts them at the importance that the old layer had, all of it on one statistic in most layers, but for small
    shares without which the others' logits would learn nothing; and where running statistics tell how statistics differ
    on average, scale and shift make up for it, also in layers of a single statistic such as "gn" and "ln". "auto" is
    "source" for layers that show signs of training: running statistics of some batch, a scale or shift that differs
    between channels, logits that differ, frozen constants; and "equal" for all others. Layers that hold nothing to look
    at go by the rest of the model; where all are so, new layers start equal, and the plan and `switch` say that.

    Arguments are those of `switch`.

    Raises:
        InputError: an unknown spec, start or option, a pattern that matches nothing, a setting that a layer cannot
            have, such as groups that do not divide its channels or ghost batches of regions of pictures, a class or
            function that makes no layer, or a change inside of what DDP, FSDP or DeepSpeed wraps.
    """
    found = plan(model, Spec.of(spec), start=start, include=include, exclude=exclude, options=options)
    if (reason := wrapped_refusal(model, found.changed())) is not None:
        raise InputError(reason)
    return found


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
    check_model("switch", model)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a TorchScript module cannot be changed; switch the model before it is scripted")
    check_start(start)
    options = dict(options or {})
    _check_options(spec, options)
    if spec.make is None and isinstance(options.get("statistics"), str):  # as commands and configurations spell them
        options["statistics"] = spec.mixing(options["statistics"]).statistics
    names = named_layers(model, inside=inside)
    layers = [name for module, all_ in names.items() if is_norm(module) or isinstance(module, _ConvNd) for name in all_]
    planner = _Planner(model, spec, names, Selection(include, exclude, layers), options, start)
    # The default device may be another than the model's; what is made here goes to the model's in the end.
    with torch.device("cpu"):
        return planner.plan(whole=not inside)


def _check_options(spec: Spec, options: Mapping[str, Any]) -> None:
    """Raise `InputError` for an option that no layer of `spec` takes, or that surgery decides itself."""
    norm = spec.registration
    for name in {"groups", "num_groups"} & options.keys() if norm.groups else ():
        as_name = f"groups are a part of the name, as in '{norm.name}:{options[name]}'"
        raise InputError(f"option of {norm.name!r} {name!r} is unknown; {as_name}")
    for dims in norm.layers:
        takes = norm.takes(dims)
        known = norm.options(dims) if spec.make is None else takes
        # Layers without scale and shift may get them, and none loses its own.
        given = {name for name, value in options.items() if name == "affine" and value is True and name in takes}
        unknown = {name: value for name, value in options.items() if name not in known and name not in given}
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
        self.ghosted = options.get("ghost") is not None

    @cached_property
    def wiring(self) -> Wiring:
        """How the layers are connected."""
        found = wire(self.model)
        self.result.wiring, self.result._sources = found.method, found.sources
        return found

    @cached_property
    def regions(self) -> set[str]:
        """The names of layers that see regions of pictures, or may see them."""
        return set(region_layers(self.model))

    @cached_property
    def signs(self) -> set[bool | None]:
        """What the normalizations of the model say of whether it was trained, see `has_learned`."""
        return {has_learned(module) for module in self.names if is_norm(module)}

    def learned(self, norm: nn.Module) -> bool | None:
        """Whether a layer was trained: as it shows, or else as the others do; None where none shows anything."""
        own = has_learned(norm)
        return next((sign for sign in (True, False) if sign in self.signs), None) if own is None else own

    def plan(self, whole: bool) -> SwitchPlan:
        """Take all layers; with `whole` also what only looks like a normalization."""
        listed: list[str] = []
        for module, names in self.names.items():
            if is_norm(module):
                self.take_norm(module)
                listed += names
            elif whole and (reason := hooked_norm(module)) is not None:
                self.leave(module, reason)
            elif isinstance(module, _ConvNd):
                self.take_conv(module)
            elif whole and looks_like_norm(module):
                self.leave(module, stays(module))
                listed += names
        for where, function in dict.fromkeys(self.wiring.functions if whole else ()):
            if where not in listed:
                reason = f"a function that the forward pass of {where or 'the model'} calls; only modules switch"
                self.result.left.append(Left((where,), f"{function}()", reason))
        for where, module in unregistered(self.model) if whole else ():
            if is_norm(module):
                reason = "kept past PyTorch's names, so that it is no part of the model; a ModuleList makes it one"
                self.result.left.append(Left((where,), describe(module), reason))
        return self.result.settled()

    def take_norm(self, norm: nn.Module) -> None:
        reason = self.refusal(norm) or self.selection.refusal(self.names[norm], norm)
        if reason:
            return self.leave(norm, reason)
        if norm in self.wiring.uncalled:
            return self.leave(norm, "no forward pass calls it: one computes with its parameters by itself")
        dims, flat, why = self.input_of(norm)
        try:
            options = self.options_for(norm)
            how = (self.start, self.learned(norm), self.tied, self.is_fed(norm))
            replacement = Replacement.of(norm, self.spec, dims, flat, options, *how)
            self.check_dims(norm, replacement.new)
        except InputError as error:
            raise InputError(f"layer {self.names[norm][0]!r}: {error}") from error
        if missing := [name for name in sorted(self.wiring.read[norm]) if not has_such(replacement.new, norm, name)]:
            return self.leave(norm, f"a forward pass reads its {missing[0]}, and {self.spec} has no such")
        carry_ranks(norm, replacement.new)
        if replacement.changes_nothing():
            return self.leave(norm, f"already {Spec(self.spec.norm, self.spec.groups)}")
        if sees_single_values(replacement.new, channels_of(norm), norm in self.wiring.flat, norm in self.wiring.single):
            return self.leave(norm, f"{self.spec} would take each statistic over a single value, and erase the input")
        self.check_ghost(norm, replacement.new)
        self.result._norms[norm] = replacement
        lost = f"; not carried over: {', '.join(replacement.lost)}" if replacement.lost else ""
        why += self.keep_constant(norm, replacement.new) + self.thaw(norm) + lost
        after = describe(replacement.new, channels=channels_of(norm))
        self.change(norm, after, why, replacement.start().function)

    def refusal(self, norm: nn.Module) -> str | None:
        """Why a normalization cannot be replaced, and if it stands for no normalizer, what it does."""
        kind = kind_of(norm)
        stands = kind is not None and kind.norm is not None
        reason = norm_refusal(norm)
        return stays(norm) if reason and not stands and "that switches" in reason else reason

    def options_for(self, norm: nn.Module) -> dict[str, Any]:
        """The options of a new layer, and the epsilon that a frozen one writes into its forward pass."""
        options = dict(self.options)
        takes = self.spec.make is None and "eps" in self.spec.registration.options()
        if takes and (eps := frozen_eps(norm)):
            options.setdefault("eps", eps)
        return options

    def input_of(self, norm: nn.Module) -> tuple[int, bool, str]:
        """Spatial dimensions of a layer's input, whether it is flat, and in words how that is known."""
        dims, new = class_dims(norm), self.spec.registration
        if new.any_dims:
            return dims or 2, False, "a normalization"
        source = self.wiring.sources.get(norm)
        if new.flat and dims in (None, 1) and norm in self.wiring.flat and source is not None:
            return 1, True, f"flat after {self.names[source][0]}"
        if dims is not None or source is None:
            return dims or 2, False, f"{dims}d by its class" if dims else "2d for want of a convolution"
        dims = len(source.kernel_size) if isinstance(source, _ConvNd) else 1
        return dims, False, f"{dims}d after {self.names[source][0]}"

    def check_dims(self, norm: nn.Module, new: nn.Module) -> None:
        """Raise `InputError` where a class or function makes layers for other inputs."""
        dims, made = class_dims(norm), class_dims(new)
        if dims is None or self.spec.make is None:
            return
        if made not in (None, dims):
            raise InputError(f"{self.spec} is for {made} spatial dimensions, and the input has {dims}")
        if dims > 1 and type(new).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):
            raise InputError(f"{self.spec} normalizes the last dimension, where maps have channels second; take 'ln'")

    def check_ghost(self, norm: nn.Module, new: nn.Module) -> None:
        """Raise `InputError` where ghost batches are asked for and the batch is one of regions."""
        if not self.ghosted or not any(map(has_batch_statistics, new.modules())):
            return
        name = next((n for n in self.names[norm] if n in self.regions), None)
        if name is not None:
            raise InputError(ghost_refusal(name, "leave ghost out and call ghost(model, samples) after the switch"))

    def thaw(self, norm: nn.Module) -> str:
        """Let scale and shift of a frozen normalization train as the layer before it; in words, what they will do."""
        kind = kind_of(norm)
        if kind is None or not kind.frozen or self.spec.make is not None:
            return ""
        source = self.wiring.sources.get(norm)
        trains = source is not None and any(p.requires_grad for p in source.parameters())
        self.result._thawed[norm] = trains
        where = "for want of a layer before it" if source is None else f"as {self.names[source][0]} does"
        return f"; scale and shift {'train' if trains else 'stay constant'} {where}"

    def keep_constant(self, norm: nn.Module, new: nn.Module) -> str:
        """Let new parameters stay constant where nothing around them trains; that they do, in words."""
        source = self.wiring.sources.get(norm)
        around = [*norm.parameters(), *(() if source is None else source.parameters())]
        if not around or any(parameter.requires_grad for parameter in around):
            return ""
        # Of scale and shift of a frozen one `thaw` decides.
        fresh = [name for name in fresh_parameters(norm, new) if name not in norm._buffers]
        for name in fresh:
            new.get_parameter(name).requires_grad_(False)
        return f"; {' and '.join(fresh)} stay constant, as all around" if fresh else ""

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
            return self.leave(conv, self.why_no_norm(conv))
        self.result._convs.append(conv)
        after = describe(conv, WS_CONV[len(conv.kernel_size)])
        read = "; a forward pass reads its weight too, which is not standardized there" * bool(self.wiring.read[conv])
        self.change(conv, after, f"feeds {self.names[norm][0]}{conv_remark(conv)}{read}")

    def why_no_norm(self, conv: _ConvNd) -> str:
        """Why a convolution counts as feeding no normalization: none follows, or nobody knows what does."""
        for module, why in self.wiring.failed.items():
            if any(inner is conv for inner in module.modules()):
                return f"what follows is not known (tracing failed: {why})"
        return "does not feed a normalization"

    def change(self, module: nn.Module, after: str, reason: str, function: str = "") -> None:
        self.result.changes.append(Change(tuple(self.names[module]), describe(module), after, reason, function))

    def leave(self, module: nn.Module, reason: str) -> None:
        self.result.left.append(Left(tuple(self.names[module]), describe(module), reason))
