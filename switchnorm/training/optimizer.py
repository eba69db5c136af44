"""Optimizer groups as the papers have them, and the schedule on top."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from switchnorm.layers import SparseSwitchNorm, SwitchNorm
from switchnorm.training.config import Config, OptimizerConfig
from switchnorm.training.schedule import factor


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Every trainable parameter once, by how it is trained.

    Importance logits get no weight decay; those of SSN a fraction of the learning rate and, through the key
    "max_norm" that the task obeys, clipped gradients.
    """
    sparse: list[nn.Parameter] = []
    switchable: list[nn.Parameter] = []
    for module in model.modules():
        if isinstance(module, SwitchNorm):
            logits = sparse if isinstance(module, SparseSwitchNorm) else switchable
            logits += [p for p in (module.mean_weight, module.var_weight) if p.requires_grad]
    special = {id(p) for p in (*sparse, *switchable)}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in special]
    groups: list[dict[str, Any]] = [
        {"params": rest, "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": switchable, "lr": config.lr, "weight_decay": 0.0},
        {
            "params": sparse,
            "lr": config.lr * config.sparse_lr_factor,
            "weight_decay": 0.0,
            "max_norm": config.sparse_clip_norm,
        },
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, total_steps: int, config: Config) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """SGD over the model's parameter groups, and the schedule that a step of it advances."""
    optimizer = torch.optim.SGD(
        parameter_groups(model, config.optimizer),
        lr=config.optimizer.lr,
        momentum=config.optimizer.momentum,
        nesterov=config.optimizer.nesterov,
    )
    schedule, epochs = config.schedule, config.train.epochs
    return optimizer, LambdaLR(optimizer, lambda step: factor(schedule, step, total_steps, epochs))
