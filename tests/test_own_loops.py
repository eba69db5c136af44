"""docs/own_loops.md: its blocks of code run, one after the other, and do what the page says."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch

import switchnorm
from tests import pages

PAGE = "docs/own_loops.md"


@pytest.fixture(scope="module")
def after() -> dict[str, Any]:
    """The names that somebody has who followed the page, with tiny data."""
    torch.manual_seed(0)
    said: list[Any] = []
    names: dict[str, Any] = {
        "epochs": 2,
        "batches": [(torch.randn(4, 3, 64, 64), torch.arange(4)) for _ in range(3)],
        "print": said.append,
        "said": said,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, module="switchnorm")
        return pages.execute(PAGE, names)


def test_the_loop_ends_with_choices(after: dict[str, Any]) -> None:
    assert len(after["said"][-1]) == 20
    assert all(row.frozen for row in after["said"][-1])


def test_the_average_has_them_too(after: dict[str, Any]) -> None:
    assert all(row.frozen for row in switchnorm.importance(after["average"]))


def test_the_page_is_about_what_there_is() -> None:
    for name in re.findall(r"`switchnorm\.(\w+(?:\.\w+)?)", pages.read(PAGE)):
        found: Any = switchnorm
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), name
