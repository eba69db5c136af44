import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchnorm.data.augment.sizes import fitted, rounded_up
from switchnorm.data.preparation import EvaluationSizes

SIDES = st.integers(1, 3000)


@given(SIDES, SIDES, st.none() | st.integers(1, 900), st.none() | st.integers(1, 1500))
def test_the_short_side_is_as_asked_unless_the_long_one_is_bounded(height, width, side, longest):
    size = fitted((height, width), side, longest)
    assert max(size) <= (longest or max(size))
    asked = side or min(height, width)
    bounded = longest is not None and max(height, width) * asked > longest * min(height, width)
    assert max(size) == longest if bounded else min(size) == asked
    scale = max(size) / max(height, width) if bounded else asked / min(height, width)
    assert all(abs(found - edge * scale) < 1 or found == 1 for found, edge in zip(size, (height, width), strict=True))


@given(SIDES, SIDES, st.integers(1, 64))
def test_rounding_up_is_to_the_next_multiple(height, width, multiple):
    rounded = rounded_up((height, width), multiple)
    assert all(
        each % multiple == 0 and edge <= each < edge + multiple
        for each, edge in zip(rounded, (height, width), strict=True)
    )


@pytest.mark.parametrize(
    ("size", "sides", "expected"),
    [
        ((512, 683), (300, 600), [(304, 400), (600, 800)]),
        ((300, 1200), (300, 600), [(256, 1000), (256, 1000)]),
        ((1200, 300), (300,), [(1000, 256)]),
        ((512, 683), (), [(512, 688)]),
    ],
)
def test_published_sizes(size, sides, expected):
    assert EvaluationSizes(sides, 1000, 8)(size) == expected
