"""`normalize` on the smallest and on empty inputs, on parts of batches, and given what is impossible."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from switchnorm.errors import InputError
from switchnorm.ops import normalize
from switchnorm.ops.statistics import check_groups, check_statistics
from tests.ops.definitions import SN, close

pytestmark = pytest.mark.usefixtures("poisoned", "path")


@pytest.mark.parametrize("statistics", [SN, ("instance",), ("layer",), ("group:1", "batch"), ("batch",)], ids=str)
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 1, 1, 1), (2, 1, 1), (1, 1, 3, 3), (2, 4, 1, 1), (1, 3)], ids=str)
def test_the_smallest_inputs_are_finite(statistics: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Where a variance is that of one element, it is 0, and the gradients are finite."""
    if len(shape) == 2:
        statistics = tuple(s for s in statistics if s != "instance") or ("layer",)
    x = torch.randn(shape, requires_grad=True)
    importance = [torch.full((len(statistics),), 1 / len(statistics), requires_grad=True) for _ in range(2)]
    if statistics == ("batch",) and shape[0] * torch.Size(shape[2:]).numel() == 1:
        with pytest.raises(InputError, match="more than one element per channel"):
            normalize(x, statistics, *importance)
        return
    y, *batch = normalize(x, statistics, *importance)
    assert y.isfinite().all()
    assert all(table.isfinite().all() for table in batch if table is not None)
    for gradient in torch.autograd.grad(y, (x, *importance), torch.randn(shape), allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("ghost", [None, 2])
@pytest.mark.parametrize("statistics", [SN, ("batch",), ("group:2",)], ids=str)
@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (0, 4), (0, 4, 1), (2, 4, 0, 3), (5, 4, 3, 0)], ids=str)
def test_empty_inputs(shape: tuple[int, ...], statistics: tuple[str, ...], ghost: int | None) -> None:
    if len(shape) == 2:
        statistics = tuple(s for s in statistics if s != "instance")
    x = torch.empty(shape, requires_grad=True)
    importance = [torch.full((len(statistics),), 1 / len(statistics), requires_grad=True) for _ in range(2)]
    affine = [torch.randn(4, requires_grad=True) for _ in range(2)]
    y, *batch = normalize(x, statistics, *importance, *affine, ghost=ghost)
    assert y.shape == x.shape
    assert all(table.isfinite().all() for table in batch if table is not None)
    y.sum().backward()
    for leaf in (*importance, *affine):
        assert leaf.grad is not None
        assert (leaf.grad == 0).all()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ("statistics", "running"),
    [(("instance",), False), (("layer", "group:2"), False), (SN, True), (("batch",), True)],
    ids=str,
)
def test_samples_that_share_no_statistics_do_not_touch_each_other(statistics: tuple[str, ...], running: bool) -> None:
    """Neither a NaN nor a huge offset in one sample of a batch changes a bit of another one's result."""
    x = torch.randn(3, 4, 5, 5)
    importance = [torch.full((len(statistics),), 1 / len(statistics)) for _ in range(2)]
    options = {"running": (torch.randn(4), torch.rand(4))} if running else {}
    y = normalize(x, statistics, *importance, **options).y
    for spoiled in (float("nan"), float("inf"), 1e20):
        x[1] = spoiled
        torch.testing.assert_close(normalize(x, statistics, *importance, **options).y[::2], y[::2], rtol=0, atol=0)


def test_ghosts_are_the_batches_of_separate_calls() -> None:
    x = torch.randn(7, 4, 3, 3, dtype=torch.float64)
    importance = [torch.randn(3).double().softmax(0) for _ in range(2)]
    for ghost in (1, 2, 3, 7, 9):
        whole = normalize(x, SN, *importance, ghost=ghost)
        parts = [normalize(part, SN, *importance) for part in x.split(ghost)]
        close(whole.y, torch.cat([part.y for part in parts]), 1e-13)
        for name in ("batch_mean", "batch_var"):
            close(getattr(whole, name), torch.stack([getattr(part, name) for part in parts]).mean(0), 1e-13)


ERRORS: list[tuple[tuple[int, ...], Any, int | None, str]] = [
    ((4, 6, 3, 3), ("instanec",), None, "statistic 'instanec' is unknown; did you mean 'instance'?"),
    ((4, 6, 3, 3), ("group:4",), None, "4 groups do not divide 6 channels; the nearest group counts are 3 or 6"),
    ((4, 6, 3, 3), ("layer", "batch"), None, "2 statistics need as many importance weights, got 1"),
    ((1, 6), ("batch",), None, r"more than one element per channel, got input \(1, 6\)"),
    ((4, 6), ("batch",), 1, r"got input \(4, 6\) in ghost batches of 1"),
    # The last ghost batch holds a single sample.
    ((5, 6), ("batch",), 2, r"got input \(5, 6\) in ghost batches of 2"),
]


@pytest.mark.parametrize(("shape", "statistics", "ghost", "message"), ERRORS, ids=str)
def test_errors(shape: tuple[int, ...], statistics: tuple[str, ...], ghost: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        normalize(torch.randn(shape), statistics, ghost=ghost)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ((), "statistics is empty; choose from"),
        (("batch", "layer", "batch"), "'batch' is given 2 times"),
        (("group:",), "did you mean 'group:32'"),
        (("group:0",), "the nearest group count is 1"),
        (("Batch",), "did you mean 'batch'"),
        (("x",), "choose from instance, layer, batch"),
    ],
)
def test_statistics_are_checked(statistics: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        check_statistics(statistics, 6)
    assert "\n" not in str(error.value)
    assert check_statistics("layer", 6) == ("layer",)
    assert check_statistics(["group:3", "batch"], 6) == ("group:3", "batch")
    assert check_groups(6, 6) == 6
