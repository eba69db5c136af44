"""The logits of sparse layers, and which optimizer trains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers.arguments import check_model
from switchnorm.surgery.importance import is_sparse, mixing_layers

_NAMES = ("mean_weight", "var_weight")

#: Under which names wrappers hold their optimizer: accelerate's and Lightning's, timm's Lookahead and SAM, others.
_INNER = ("optimizer", "_optimizer", "_base_optimizer", "base_optimizer")


class Logits(NamedTuple):
    """Logits by their place, in which `load_state_dict(assign=True)` may put another tensor."""

    layer: Any
    name: str

    def parameters(self) -> list[nn.Parameter]:
        """The logits (K,), or what they are computed from: by a parametrization, pruning or `weight_norm`."""
        found = self.layer._parameters.get(self.name)
        if found is not None:
            return [found]
        inner = f"parametrizations.{self.name}.", f"{self.name}_"
        return [p for path, p in self.layer.named_parameters() if path.startswith(inner)]


def of(optimizer: torch.optim.Optimizer, layers: Sequence[Any]) -> list[Logits]:
    """The trainable logits that an optimizer has."""
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [logits for logits in trainable(layers) if any(id(p) in own for p in logits.parameters())]


def not_held(optimizer: torch.optim.Optimizer, layers: dict[str, Any]) -> tuple[list[str], int]:
    """Names of the trainable logits that an optimizer does not have, and the number of all."""
    named = [(f"{key}.{each.name}", each) for key, layer in layers.items() for each in trainable([layer])]
    held = of(optimizer, list(layers.values()))
    return [name for name, logits in named if logits not in held], len(named)


def logits_of(layer: Any) -> list[Logits]:
    """Those of the mean and of the variance."""
    return [Logits(layer, name) for name in _NAMES]


def trainable(layers: Sequence[Any]) -> list[Logits]:
    """The logits of these layers that get gradients."""
    each = [logits for layer in layers for logits in logits_of(layer)]
    return [logits for logits in each if any(p.requires_grad for p in logits.parameters())]


def hookable(optimizer: Any, layers: Sequence[Any]) -> torch.optim.Optimizer:
    """The optimizer that trains logits of these layers and whose step calls hooks, inside of what wraps it.

    The innermost, for some wrappers have other ways than their own step to call that of the inner one (SAM).

    Raises:
        InputError: there is none.
    """
    found: list[torch.optim.Optimizer] = []
    inner = optimizer
    while inner is not None:
        if isinstance(inner, torch.optim.Optimizer) and getattr(type(inner).step, "hooked", False):
            found.append(inner)
        inner = next((vars(inner)[name] for name in _INNER if name in getattr(inner, "__dict__", ())), None)
    if not found:
        raise InputError(
            f"{type(optimizer).__name__} is no torch.optim.Optimizer whose step calls hooks; give the one that it wraps"
        )
    for each in reversed(found):
        if of(each, layers):
            return each
    raise InputError(
        "the optimizer trains no logit of the model's SSN layers; make it after switch, "
        "from switchnorm.parameter_groups(model, lr=...)"
    )


def learning_layers(model: nn.Module) -> dict[str, Any]:
    """The sparse layers whose logits are trained, by name."""
    check_model("SparseSchedule", model)
    sparse = {name: layer for name, layer in mixing_layers(model) if is_sparse(layer)}
    if not sparse:
        raise InputError(
            "the model has no SSN layer, and nothing else needs a schedule; switch(model, 'ssn') makes some"
        )
    learning = {name: layer for name, layer in sparse.items() if trainable([layer])}
    if not learning:
        raise InputError(
            f"the logits of all {len(sparse)} SSN layers are frozen and can choose nothing; "
            "requires_grad_(True) makes them learn"
        )
    return learning
