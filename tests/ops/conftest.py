"""The implementations that every test of an operation runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from switchnorm.ops import kernel


@pytest.fixture(params=["reference", "cpu"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The plain reference, and the fast path that a CPU takes."""
    with kernel(request.param):
        yield request.param
