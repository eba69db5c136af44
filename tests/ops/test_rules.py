"""The rule of Python's numbers and of the compiled library, on the tables of all definitions."""

from __future__ import annotations

import pytest

from tests.ops import rules


@pytest.fixture(autouse=True)
def _library_where_it_is_asked(request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params.get("path", "cpu") == "cpu":
        request.getfixturevalue("library")


@pytest.mark.parametrize("path", ["numbers", "cpu"])
@pytest.mark.parametrize("name", rules.PROJECTIONS)
def test_importance(name: str, path: str) -> None:
    case = rules.PROJECTIONS[name]
    rules.compared(rules.projected(case, path), rules.projected(case, "plain"))


@pytest.mark.parametrize("path", ["plain", "numbers", "cpu"])
def test_two_members_on_the_sphere_have_no_gradient(path: str) -> None:
    """An optimizer that divides by its size, or takes its sign, would take roundings for one."""
    found = rules.projected(rules.STILL, path)
    assert found["d mean_logits"].tolist() == found["d var_logits"].tolist() == [0, 0]


@pytest.mark.parametrize("shape", rules.SHAPES, ids=str)
@pytest.mark.parametrize("name", rules.MIXTURES)
def test_statistics(name: str, shape: tuple[int, ...]) -> None:
    rules.compared(rules.mixed(shape, name, "cpu"), rules.mixed(shape, name, "reference"))
