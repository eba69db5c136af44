"""Optimizers that were made before a switch: one that steps without the new parameters is named, once.

Logits beside a scale that was there before are left to their layer, which sees more: `switchnorm.layers.norms.trained`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet, ref

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


class OptimizerWarning(UserWarning):
    """An optimizer that lacks parameters which a switch has made."""


class NewParameter:
    """A parameter that a switch has made, and those that an optimizer has which trains what is around it.

    Args:
        name: in the model.
        parameter: the new one.
        beside: the layer's old ones, or those of the layer before it.
    """

    def __init__(self, name: str, parameter: nn.Parameter, beside: Iterable[nn.Parameter]) -> None:
        self.name = name
        self.parameter = ref(parameter)
        self.beside = [ref(each) for each in beside]

    def is_among(self, held: set[int]) -> bool:
        """Whether an optimizer of the parameters with the ids `held` has it."""
        return id(self.parameter()) in held

    def belongs_to(self, held: set[int]) -> bool:
        """Whether such an optimizer trains what is around it."""
        return any(each() is not None and id(each()) in held for each in self.beside)

    def waits(self) -> bool:
        """Whether it is still there and to be trained."""
        parameter = self.parameter()
        return parameter is not None and parameter.requires_grad


class _Switched:
    """The parameters that one switch has made, and no optimizer that has stepped has."""

    def __init__(self, fresh: list[NewParameter]) -> None:
        self.fresh = fresh
        self.stepped: WeakSet[Optimizer] = WeakSet()

    def look(self, optimizer: Optimizer, held: set[int]) -> str | None:
        """What is to be said after a step of an optimizer that has the parameters with the ids `held`.

        Of its first step nothing, for the others may be another optimizer's, which steps next.
        """
        self.fresh = [each for each in self.fresh if each.waits() and not each.is_among(held)]
        lacking = [each.name for each in self.fresh if each.belongs_to(held)]
        if not lacking:
            return None
        if optimizer not in self.stepped:
            self.stepped.add(optimizer)
            return None
        self.fresh = []
        more = f" and {len(lacking) - 1} more new ones" if len(lacking) > 1 else ""
        return (
            f"{type(optimizer).__name__} was made before the switch and lacks parameter {lacking[0]!r}{more}, which no "
            "optimizer trains: make it after switch, from switchnorm.parameter_groups(model, lr=...)"
        )


_switched: list[_Switched] = []
_hooks: list[Any] = []


def watch(fresh: list[NewParameter]) -> None:
    """Look at optimizers, as they step, until one has each of these parameters, or lacks it for good.

    Not seen is what is no optimizer of torch's kind, or has copies of the parameters.
    """
    if fresh:
        _switched.append(_Switched(fresh))
        if not _hooks:
            _hooks.append(register_optimizer_step_post_hook(_look))


def _look(optimizer: Optimizer, *_: Any) -> None:
    if torch.compiler.is_compiling():
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    said = [line for each in _switched if (line := each.look(optimizer, held)) is not None]
    _switched[:] = [each for each in _switched if each.fresh]
    if not _switched:
        _hooks.pop().remove()
    for line in said:
        warnings.warn(line, OptimizerWarning, stacklevel=4)
