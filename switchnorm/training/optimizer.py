"""Optimizer groups as the papers have them, and the schedule on top."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from switchnorm.config.schema import Config, GroupConfig, OptimizerConfig
from switchnorm.errors import InputError
from switchnorm.surgery.importance import is_sparse, mixing_layers
from switchnorm.surgery.kinds import is_norm
from switchnorm.training.optimizers import optimizer_of
from switchnorm.training.schedule import factor


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Every trainable parameter once, by how it is trained.

    The first of `config.groups` whose glob matches a parameter's name decides on it. Importance logits get no weight
    decay, unless `config.decay_logits` gives it to those of SN; those of SSN get a fraction of the learning rate and,
    through the key "max_norm", which `Task` reads, clipped gradients. The key "lr_factor" holds a group's share of the
    learning rate.

    Raises:
        InputError: a glob that decides on no parameter.
    """
    kinds = _logits(model)
    normalizing = {id(p) for module in model.modules() if is_norm(module) for p in module.parameters()}
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    deciding: set[int] = set()
    for name, parameter in trainable:
        place = next((i for i, group in enumerate(config.groups) if fnmatchcase(name, group.match)), None)
        own = GroupConfig("*") if place is None else config.groups[place]
        deciding |= set() if place is None else {place}
        kind = kinds.get(id(parameter), "")
        plain = parameter.dim() > 1 and id(parameter) not in normalizing
        rule = _rule(kind, plain, own, config)
        # Sorted by kind, logits last, and among these by configured group, parameters without one first.
        key = (_KINDS.index(kind), -1 if place is None else place, *rule.items())
        groups.setdefault(key, {"params": [], **rule, "lr": config.lr * rule["lr_factor"]})["params"].append(parameter)
    for place in set(range(len(config.groups))) - deciding:
        raise _idle(config.groups[place].match, [name for name, _ in trainable])
    return [group for _, group in sorted(groups.items(), key=lambda item: item[0][:2])]


#: All parameters but logits, logits of SN, logits of SSN; optimizer groups come in this order.
_KINDS = ("", "switchable", "sparse")


def _logits(model: nn.Module) -> dict[int, str]:
    return {
        id(p): "sparse" if is_sparse(layer) else "switchable"
        for _, layer in mixing_layers(model)
        for p in (layer.mean_weight, layer.var_weight)
    }


def _rule(kind: str, plain: bool, own: GroupConfig, config: OptimizerConfig) -> dict[str, Any]:
    """How a parameter is trained; `plain` is one of several dimensions that belongs to no normalization."""
    if kind == "sparse":
        factor = own.lr_factor * config.sparse_lr_factor
        return {"lr_factor": factor, "weight_decay": 0.0, "max_norm": config.sparse_clip_norm}
    decay = config.weight_decay if own.weight_decay is None else own.weight_decay
    decays = config.decay_logits if kind else config.decay_norms or plain
    return {"lr_factor": own.lr_factor, "weight_decay": decay if decays else 0.0}


def _idle(glob: str, names: Sequence[str]) -> InputError:
    if any(fnmatchcase(name, glob) for name in names):
        return InputError(f"optimizer.groups: earlier globs match all that {glob!r} matches; put it before them")
    nearest = difflib.get_close_matches(glob, names, n=1, cutoff=0) or ["none"]
    return InputError(f"optimizer.groups: {glob!r} matches no parameter; the nearest is {nearest[0]!r}")


def effective_lr(config: Config) -> float:
    """The learning rate of a run, scaled to its samples per optimizer step where `lr_per` asks for it."""
    optimizer, train = config.optimizer, config.train
    if optimizer.lr_per is None:
        return optimizer.lr
    return optimizer.lr * train.batch_size * train.iteration_size / optimizer.lr_per


def current_lr(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of this step, of parameters that get the whole of it."""
    rates = (group["lr"] / group["lr_factor"] for group in optimizer.param_groups if group["lr_factor"])
    return float(next(rates, 0.0))


#: Optimizers whose steps torch has as one kernel on CUDA.
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def make_optimizer(model: nn.Module, total_steps: int, config: Config) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """An optimizer over the model's parameter groups, and the schedule that its steps advance, from `start_epoch` on.

    Where all parameters are on CUDA a step of SGD, Adam and AdamW is one kernel per group.

    Raises:
        InputError: as `optimizer_of`.
    """
    settings = replace(config.optimizer, lr=effective_lr(config))
    make = optimizer_of(settings)
    # Lightning's mixed precision does not clip the gradients of an optimizer that is fused.
    on_cuda = config.train.precision in ("32", "64") and all(p.is_cuda for p in model.parameters() if p.requires_grad)
    fused = {"fused": True} if on_cuda and make.func in _FUSED else {}
    optimizer = make(parameter_groups(model, settings), **fused)
    schedule, epochs, lr = config.schedule, config.train.epochs, config.optimizer.lr
    first = total_steps // epochs * config.train.start_epoch
    return optimizer, LambdaLR(optimizer, lambda step: factor(schedule, first + step, total_steps, epochs, lr))
