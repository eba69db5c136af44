"""Fusing normalization, addition and ReLU in a model that somebody else wrote."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers import norm_of
from switchnorm.layers.arguments import check_model
from switchnorm.surgery.fused import Program, is_rewritten, original, pickles_plainly, rewrite
from switchnorm.surgery.fusion import Site
from switchnorm.surgery.kinds import is_norm, named_layers
from switchnorm.surgery.plan import Change, Left, counted, describe, table
from switchnorm.surgery.shallow import RefusalError


def fuse(model: nn.Module) -> nn.Module:
    """Fuse normalization, addition and ReLU of `model` in place: `plan_fuse` and its `apply`.

    Returns:
        The model itself. A model without anything to fuse is returned as it is; `plan_fuse` tells why.

    Raises:
        InputError: as `plan_fuse`, before anything has changed.
    """
    return plan_fuse(model).apply()


def plan_fuse(model: nn.Module) -> FusePlan:
    """Decide where this library's normalizations take over the addition and the ReLU after them, and change nothing.

    What the model computes stays the same, values and gradients; each fused ReLU and addition saves passes over
    memory. Modules whose forward pass calls such layers get it rewritten: they keep their identity, state, hooks and
    methods, and run their own forward pass where the two might differ (after hooks were registered or layers replaced,
    for other kinds of arguments, under torch.compile, which fuses by itself). Forward passes that do not show what
    they do when traced are left: `switch` first makes other libraries' normalizations ours.

    Args:
        model: any model.

    Raises:
        InputError: no module, or a TorchScript module.
    """
    check_model("fuse", model)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a TorchScript module cannot be changed; fuse the model before it is scripted")
    plan = FusePlan(model)
    names = named_layers(model)
    sites: defaultdict[nn.Module, list[tuple[str, Site]]] = defaultdict(list)
    reasons: dict[nn.Module, str] = {}
    refused: dict[nn.Module, str] = {}
    for module, (name, *_) in names.items():
        if is_norm(module) or not any(map(is_norm, module.modules())) or _has_no_forward(module):
            continue
        try:
            program = _program(module)
        except RefusalError as error:
            refused |= {inner: f"in {_shown(name)}: {error}" for inner in module.modules() if is_norm(inner)}
            continue
        plan._programs[module] = program
        for path, found in program.found:
            norm = module.get_submodule(path)
            if isinstance(found, Site):
                sites[norm].append((name, found))
            else:
                reasons.setdefault(norm, found)
    for norm in filter(is_norm, names):
        if norm in sites:
            plan.changes.append(_change(norm, names[norm], sites[norm]))
        else:
            reason = _refusal(norm) or reasons.get(norm) or refused.get(norm, "no module was seen to call it")
            plan.left.append(Left(tuple(names[norm]), describe(norm), reason))
    return plan


@dataclass
class FusePlan:
    """What `plan_fuse` decided. Printing it shows the counts and a table of all normalizations.

    Attributes:
        model: the model, unchanged until `apply`.
        changes: the normalizations that take over what follows them, in the order of definition.
        left: those that stay as they are.
    """

    model: nn.Module
    changes: list[Change] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    _programs: dict[nn.Module, Program] = field(default_factory=dict, repr=False)

    def apply(self) -> nn.Module:
        """Carry the plan out; returns the model itself."""
        for module, program in self._programs.items():
            if program.sites:
                rewrite(module, program)
        return self.model

    def __str__(self) -> str:
        lines = [f"fuse: {counted(len(self.changes), 'normalization')} fused, {len(self.left)} left as before"]
        lines += table(
            ("layer", "before", "after", "reason"), [(c.names, c.before, c.after, c.reason) for c in self.changes]
        )
        lines += table(("layer left", "is", "reason"), [(e.names, e.description, e.reason) for e in self.left])
        return "\n".join(lines)


def _program(module: nn.Module) -> Program:
    if is_rewritten(module):
        raise RefusalError("already fused")
    if not pickles_plainly(original(module)):
        raise RefusalError("it is copied and pickled in a way of its own")
    return Program(module)


def _has_no_forward(module: nn.Module) -> bool:
    """Whether a module is a container that others look into."""
    return type(module).forward is nn.Module.forward


def _refusal(norm: nn.Module) -> str | None:
    """Why a layer cannot fuse wherever it is called; None where it can."""
    kind = norm_of(norm)
    if kind is None:
        return "not a layer of this library; switch it first"
    return None if kind.fuses else f"layers of {kind.name!r} take no residual and no activation"


def _change(norm: nn.Module, names: list[str], sites: list[tuple[str, Site]]) -> Change:
    kinds = dict.fromkeys("add + ReLU" if site.residual else "ReLU" for _, site in sites)
    where = ", ".join(_shown(name) for name, _ in sites)
    before = describe(norm)
    return Change(tuple(names), before, f"{before} + {' or '.join(kinds)}", f"in {where}")


def _shown(name: str) -> str:
    return name or "(the model)"
