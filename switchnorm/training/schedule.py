"""The learning rate over a run, as a factor of the configured one."""

from __future__ import annotations

import math

from switchnorm.config.schema import ScheduleConfig


def factor(schedule: ScheduleConfig, step: int, total_steps: int, epochs: int, lr: float) -> float:
    """What multiplies the learning rate at an optimizer step.

    With `schedule.by` "step" the formulas are those of SN's published training code (Luo et al., ICLR 2019), and with
    "epoch" those of SSN's (Shao et al., CVPR 2019), which advances torch's MultiStepLR or CosineAnnealingLR once an
    epoch.

    Args:
        schedule: the configuration.
        step: from 0.
        total_steps: of the whole run.
        epochs: of the whole run.
        lr: the configured rate, in whose units the schedule has its own.

    Returns:
        A factor in [0, 1]. Without `warmup_lr` and `warmup_from` a warm-up rises by the same amount in every step and
        reaches 1 in its last one; with one of them, it starts there and would reach 1 one step later. Cosine and
        polynomial fall from 1 to the share that `schedule.final_lr` is of the rate, over the steps that remain.
    """
    if schedule.by == "epoch":
        step, total_steps = step * epochs // total_steps, epochs
    steps_per_epoch = total_steps / epochs
    warmup = schedule.warmup_steps or round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return _warming(schedule, step, warmup, lr)
    if schedule.name == "step":
        return schedule.gamma ** sum(step >= round(m * steps_per_epoch) for m in schedule.milestones)
    progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    falling = (1 + math.cos(math.pi * progress)) / 2 if schedule.name == "cosine" else (1 - progress) ** schedule.power
    final = _share(schedule.final_lr, lr)
    return final + (1 - final) * falling


def _warming(schedule: ScheduleConfig, step: int, warmup: int, lr: float) -> float:
    """The factor at a step of a warm-up of so many."""
    first = schedule.warmup_from if schedule.warmup_lr is None else _share(schedule.warmup_lr, lr)
    if first is None:
        return (step + 1) / warmup
    return first if schedule.warmup == "constant" else first + (1 - first) * step / warmup


def _share(rate: float, lr: float) -> float:
    """A rate as a factor of `lr`; a run at rate 0 stays there."""
    return rate / lr if lr else 0.0
