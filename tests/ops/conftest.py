"""The implementations that every test of an operation runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from switchnorm.ops import kernel
from switchnorm.ops.kernels import choice
from tests.ops.kernels.plain import PlainKernel


@pytest.fixture
def fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the compiled library is there or not, a CPU has a fast path, for tests of who takes one."""
    load, plain = choice._load, PlainKernel()
    monkeypatch.setattr(choice, "_load", lambda name: plain if name == "cpu" else load(name))


@pytest.fixture(params=["reference", "cpu"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The plain reference, and the fast path that a CPU takes."""
    with kernel(request.param):
        yield request.param
