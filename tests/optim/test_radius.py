"""The radius as a function of the step, and back."""

from __future__ import annotations

import pytest
import torch

from switchnorm import InputError
from switchnorm.optim.radius import TRACE, RadiusShape, rounded

SHAPES = [
    {},
    {"start": 0.5},
    {"end": 0.1},
    {"power": 3.0},
    {"power": 0.5},
    {"power": 8.0},
    {"start": 0.3, "end": 0.6, "power": 4.0},
    {"start": 0.99, "power": 2.0},
]


@pytest.mark.parametrize("steps", [1, 2, 3, 30, 1000])
def test_the_default_is_a_straight_line_to_the_last_step(steps: int) -> None:
    shape = RadiusShape(steps)
    assert [shape(k) for k in range(steps + 3)] == [min(k / max(steps - 1, 1), 1.0) for k in range(steps + 3)]


def test_start_end_and_power() -> None:
    shape = RadiusShape(101, start=0.2, end=0.7, power=2.0)
    assert shape(0) == 0
    assert 0 < shape(20) < TRACE
    assert [shape(k) for k in (30, 45, 60)] == pytest.approx([0.04, 0.25, 0.64], abs=TRACE)
    assert [shape(k) for k in (70, 71, 100, 200)] == [1, 1, 1, 1]


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("steps", [2, 9, 1000, 1_000_000])
def test_every_step_has_a_radius_of_its_own_in_float32(steps: int, options: dict[str, float]) -> None:
    shape = RadiusShape(steps, **options)
    assert (shape(0), shape(steps - 1)) == (0, 1)
    around = {0, *(int(steps * part) for part in (0.001, 0.1, 0.29, 0.5, 0.59, 0.985, 1))}
    known = sorted({k for middle in around for k in range(middle - 30, middle + 30) if 0 <= k < steps})
    radii = {k: rounded(shape(k), torch.float32) for k in known}
    for k, radius in radii.items():
        assert 0 <= radius <= 1
        assert radius == 1 or shape.step(radius) == k
        assert k - 1 not in radii or radius == 1 or radii[k - 1] < radius


def test_what_lies_between_two_steps_belongs_to_the_later_one() -> None:
    shape = RadiusShape(11)
    assert [shape.step(radius) for radius in (0.0, 0.01, 0.1, 0.25, 0.95, 1.0)] == [0, 1, 1, 3, 10, 10]
    assert RadiusShape(1).step(0.0) == 0
    assert RadiusShape(1).step(1.0) == 1


def test_bfloat16_finds_the_first_of_the_steps_that_share_a_radius() -> None:
    shape = RadiusShape(10_001)
    radius = rounded(shape(7000), torch.bfloat16)
    found = shape.step(radius, torch.bfloat16)
    assert rounded(shape(found), torch.bfloat16) == radius != rounded(shape(found - 1), torch.bfloat16)
    assert 0 <= 7000 - found <= 10_001 / 256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 10.5}, "steps must be a whole number of optimizer steps, got 10.5"),
        ({"steps": True}, "steps must be a whole number"),
        ({"start": 1.0}, r"start must lie in \[0, 1\)"),
        ({"start": -0.1}, r"start must lie in \[0, 1\)"),
        ({"end": 1.5}, "be at most 1, got 1.5"),
        ({"start": 0.5, "end": 0.5}, "end must lie above start, 0.5"),
        ({"power": 0}, "power must be above 0 and finite, got 0"),
        ({"power": float("nan")}, "power must be above 0"),
    ],
)
def test_wrong_numbers(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RadiusShape(**{"steps": 10, **options})
