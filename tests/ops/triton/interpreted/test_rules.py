"""Triton's rule, on the tables of all definitions."""

from __future__ import annotations

import pytest

from tests.ops import rules


@pytest.mark.parametrize("name", rules.PROJECTIONS)
def test_importance(name: str) -> None:
    case = rules.PROJECTIONS[name]
    rules.compared(rules.projected(case, "triton"), rules.projected(case, "plain"))


def test_two_members_on_the_sphere_have_no_gradient() -> None:
    found = rules.projected(rules.STILL, "triton")
    assert found["d mean_logits"].tolist() == found["d var_logits"].tolist() == [0, 0]


@pytest.mark.parametrize("shape", rules.SHAPES, ids=str)
@pytest.mark.parametrize("name", rules.MIXTURES)
def test_statistics(name: str, shape: tuple[int, ...]) -> None:
    rules.compared(rules.mixed(shape, name, "triton"), rules.mixed(shape, name, "reference"))
