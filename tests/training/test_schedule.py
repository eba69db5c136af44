"""The learning rate, against the published formulas and torch's own schedulers."""

import math
from itertools import product

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from switchnorm.config.schema import Config, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from switchnorm.training.optimizer import current_lr, make_optimizer
from switchnorm.training.schedule import factor


def trace(schedule: ScheduleConfig, steps: int, epochs: int, lr: float = 1.0) -> list[float]:
    return [factor(schedule, step, steps, epochs, lr) for step in range(steps)]


def test_step_multiplies_after_each_milestone():
    values = trace(ScheduleConfig("step", milestones=[2, 3], gamma=0.1), 40, 4)
    assert values == pytest.approx([1.0] * 20 + [0.1] * 10 + [0.01] * 10)


def test_cosine_falls_from_one_to_zero_symmetrically():
    values = trace(ScheduleConfig("cosine"), 100, 10)
    assert values[0] == 1
    assert values[50] == pytest.approx(0.5)
    assert values == sorted(values, reverse=True)
    assert factor(ScheduleConfig("cosine"), 100, 100, 10, 1.0) == pytest.approx(0)


def test_polynomial_is_the_power_of_what_remains():
    values = trace(ScheduleConfig("polynomial", power=0.9), 10, 1)
    assert values == pytest.approx([(1 - i / 10) ** 0.9 for i in range(10)])


@pytest.mark.parametrize("name", ["step", "cosine", "polynomial"])
def test_warmup_rises_linearly_to_the_full_rate(name):
    values = trace(ScheduleConfig(name, warmup_epochs=2), 100, 10)
    assert values[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert values[20] == 1


def test_fractional_warmup_and_fewer_steps_than_epochs():
    assert trace(ScheduleConfig("cosine", warmup_epochs=0.5), 8, 2)[:2] == pytest.approx([0.5, 1.0])
    assert len(trace(ScheduleConfig("step", milestones=[1, 2]), 2, 4)) == 2


def published(schedule: ScheduleConfig, lr: float, step: int, of_an_epoch: int, epochs: int) -> float:
    """The rate of a step as SN's training code defines it, from the equations that it states.

    A warm-up of W steps takes w + (lr - w) t / W, or w. After it, with M steps in all and u = (t - W) / (M - W):
    lr gamma^(milestones up to this epoch); f + (lr - f) (1 - u)^power; f + (lr - f) (1 + cos(pi u)) / 2.
    """
    warm, every = int(schedule.warmup_epochs * of_an_epoch), epochs * of_an_epoch
    low = schedule.warmup_lr or 0.0
    if step < warm:
        return low if schedule.warmup == "constant" else low + (lr - low) * step / warm
    if schedule.name == "step":
        return lr * schedule.gamma ** len([m for m in schedule.milestones if m <= step // of_an_epoch])
    u, final = (step - warm) / (every - warm), schedule.final_lr
    if schedule.name == "polynomial":
        return final + (lr - final) * (1 - u) ** schedule.power
    return final + (lr - final) * (1 + math.cos(math.pi * u)) / 2


@pytest.mark.parametrize(("name", "warmup"), list(product(["step", "polynomial", "cosine"], ["linear", "constant"])))
@pytest.mark.parametrize(("final_lr", "warmup_lr", "warmup_epochs"), [(0, 0, 2), (0.003, 0.02, 1), (0.01, 0.2, 3)])
def test_every_step_has_the_published_rate(name, warmup, final_lr, warmup_lr, warmup_epochs):
    schedule = ScheduleConfig(name, milestones=[2, 4], gamma=0.3, power=2.0, warmup=warmup, warmup_lr=warmup_lr)
    schedule.final_lr = 0 if name == "step" else final_lr
    schedule.warmup_epochs = warmup_epochs
    rates = [0.4 * value for value in trace(schedule, 7 * 6, 6, lr=0.4)]
    assert rates == pytest.approx([published(schedule, 0.4, step, 7, 6) for step in range(7 * 6)], rel=1e-12)


def by_torch(make, epochs: int) -> list[float]:
    """The rates of one of torch's schedulers that steps once an epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.4)
    scheduler, rates = make(optimizer), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (ScheduleConfig("step", milestones=[1, 4], gamma=0.2), lambda o: MultiStepLR(o, [1, 4], 0.2)),
        (ScheduleConfig("cosine"), lambda o: CosineAnnealingLR(o, 6)),
        (ScheduleConfig("cosine", final_lr=0.03), lambda o: CosineAnnealingLR(o, 6, eta_min=0.03)),
    ],
)
def test_by_epoch_the_rate_is_that_of_torch_s_schedulers_as_ssn_steps_them(schedule, make):
    schedule.by = "epoch"
    rates = [0.4 * value for value in trace(schedule, 5 * 6, 6, lr=0.4)]
    assert rates == pytest.approx([rate for rate in by_torch(make, 6) for _ in range(5)], rel=1e-12)


@pytest.mark.parametrize(
    ("warmup_lr", "warmup", "expected"),
    [(None, "linear", [0.5, 1]), (0.1, "linear", [0.25, 0.625]), (0.1, "constant", [0.25, 0.25])],
)
def test_by_epoch_a_warmup_changes_where_an_epoch_begins(warmup_lr, warmup, expected):
    schedule = ScheduleConfig("step", by="epoch", warmup_epochs=2, warmup_lr=warmup_lr, warmup=warmup)
    values = trace(schedule, 3 * 4, 4, lr=0.4)
    assert values == pytest.approx([value for value in (*expected, 1, 1) for _ in range(3)])


def test_the_schedule_s_own_rates_are_scaled_with_the_rate_of_the_run():
    schedule = ScheduleConfig("cosine", final_lr=0.01, warmup_epochs=1, warmup_lr=0.02)
    train = TrainConfig(epochs=2, batch_size=512, iteration_size=2)
    optimizer = OptimizerConfig(lr=0.1, lr_per=256, momentum=0.5)
    config = Config(ModelConfig("x"), {}, train, optimizer, schedule)
    sgd, scheduler = make_optimizer(torch.nn.Conv2d(1, 1, 1), total_steps=4, config=config)
    rates = []
    for _ in range(5):
        rates.append(current_lr(sgd))
        sgd.step()
        scheduler.step()
    assert rates == pytest.approx([4 * rate for rate in (0.02, 0.06, 0.1, 0.055, 0.01)])


def test_a_rate_of_zero_stays_zero():
    schedule = ScheduleConfig("cosine", warmup_epochs=0.5, warmup_lr=0.0)
    assert all(0 * value == 0 for value in trace(schedule, 4, 1, lr=0.0))


def test_a_run_that_starts_later_has_the_rates_of_its_epochs():
    train = TrainConfig(epochs=4, batch_size=8, start_epoch=3)
    config = Config(ModelConfig("x"), {}, train, OptimizerConfig(lr=0.2), ScheduleConfig("cosine"))
    sgd, scheduler = make_optimizer(torch.nn.Conv2d(1, 1, 1), total_steps=20, config=config)
    expected = [0.2 * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(15, 20)]
    for rate in expected:
        assert current_lr(sgd) == pytest.approx(rate)
        sgd.step()
        scheduler.step()


def test_a_warm_up_of_steps_begins_at_a_share_of_the_rate():
    """Detectron's: from a third of the rate over the first 500 steps, and from there what the schedule says."""
    schedule = ScheduleConfig("step", milestones=[120, 160], warmup_steps=500, warmup_from=1 / 3)
    values = trace(schedule, 180_000, 180)
    for step in (0, 1, 250, 499):
        assert values[step] == pytest.approx(1 / 3 * (1 - step / 500) + step / 500), step
    assert values[500] == values[119_999] == 1
    assert values[120_000] == values[159_999] == pytest.approx(0.1)
    assert values[160_000] == pytest.approx(0.01)
    assert trace(ScheduleConfig("cosine", warmup_steps=3), 10, 2)[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    constant = ScheduleConfig("cosine", warmup_steps=3, warmup="constant", warmup_from=0.25)
    assert trace(constant, 10, 2)[:4] == pytest.approx([0.25, 0.25, 0.25, 1])
