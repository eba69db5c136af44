import pytest

from switchnorm.config.schema import ScheduleConfig
from switchnorm.training.schedule import factor


def trace(schedule: ScheduleConfig, steps: int, epochs: int) -> list[float]:
    return [factor(schedule, step, steps, epochs) for step in range(steps)]


def test_step_multiplies_after_each_milestone():
    values = trace(ScheduleConfig("step", milestones=[2, 3], gamma=0.1), 40, 4)
    assert values == pytest.approx([1.0] * 20 + [0.1] * 10 + [0.01] * 10)


def test_cosine_falls_from_one_to_zero_symmetrically():
    values = trace(ScheduleConfig("cosine"), 100, 10)
    assert values[0] == 1
    assert values[50] == pytest.approx(0.5)
    assert values == sorted(values, reverse=True)
    assert factor(ScheduleConfig("cosine"), 100, 100, 10) == pytest.approx(0)


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
