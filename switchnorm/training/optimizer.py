"""Optimizer groups as the papers have them, and the schedule on top."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from switchnorm.config.schema import Config, GroupConfig, OptimizerConfig
from switchnorm.errors import InputError
from switchnorm.optim.parameter_groups import Kind, grouped, is_bias, rule_of, trainable
from switchnorm.training.optimizers import optimizer_of
from switchnorm.training.schedule import factor


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """`switchnorm.parameter_groups` with the rates and decays of `config.groups`.

    The first of them whose glob matches a parameter's name decides on it. The key "lr_factor" holds a group's share of
    the learning rate, and "max_norm", which `Task` reads, to what the gradients of SSN's logits are clipped.

    Raises:
        InputError: a glob that decides on no parameter.
    """
    named = list(trainable(model))
    deciding: set[int] = set()

    def assigned() -> Iterator[tuple[nn.Parameter, Kind, int, dict[str, Any]]]:
        for name, parameter, kind in named:
            place = next((i for i, group in enumerate(config.groups) if fnmatchcase(name, group.match)), -1)
            deciding.add(place)
            own = GroupConfig("*") if place < 0 else config.groups[place]
            decay = config.weight_decay if own.weight_decay is None else own.weight_decay
            options = (config.decay_norms, config.decay_logits, config.sparse_lr_factor)
            bias = config.bias_lr_factor != 1 and is_bias(name, kind)
            rate = own.lr_factor * (config.bias_lr_factor if bias else 1.0)
            rule = rule_of(kind, rate, decay, *options)
            limit = {"max_norm": config.sparse_clip_norm} if kind == "sparse" else {}
            # Parameters that no glob matches come first, and all of a place have one rate.
            yield (
                parameter,
                kind,
                2 * place + bias,
                {**rule, "lr_factor": rule["lr"], "lr": config.lr * rule["lr"], **limit},
            )

    groups = grouped(assigned())
    for place in set(range(len(config.groups))) - deciding:
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        raise _idle(config.groups[place].match, [name for name, *_ in named], frozen)
    return groups


def _idle(glob: str, names: Sequence[str], frozen: Sequence[str]) -> InputError:
    if any(fnmatchcase(name, glob) for name in names):
        return InputError(f"optimizer.groups: earlier globs match all that {glob!r} matches; put it before them")
    if held := [name for name in frozen if fnmatchcase(name, glob)]:
        return InputError(
            f"optimizer.groups: {glob!r} matches nothing that learns, for {held[0]!r} is frozen"
            f"{f', as are {len(held) - 1} more' if len(held) > 1 else ''}; leave the group out, or change train.freeze"
        )
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
