"""The learning rate over a run, as a factor of the configured one."""

from __future__ import annotations

import math

from switchnorm.config.schema import ScheduleConfig


def factor(schedule: ScheduleConfig, step: int, total_steps: int, epochs: int) -> float:
    """What multiplies the learning rate at an optimizer step.

    Args:
        schedule: the configuration.
        step: from 0.
        total_steps: of the whole run.
        epochs: of the whole run.

    Returns:
        A factor in [0, 1]. A linear warm-up reaches 1 at its last step; cosine and polynomial fall from 1 to 0 over the
        steps that remain.
    """
    steps_per_epoch = total_steps / epochs
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    if schedule.name == "step":
        return schedule.gamma ** sum(step >= round(m * steps_per_epoch) for m in schedule.milestones)
    progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return (1 - progress) ** schedule.power
