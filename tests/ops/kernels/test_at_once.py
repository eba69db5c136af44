"""Layers on the compiled library in several threads of a program at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import switchnorm

pytestmark = pytest.mark.usefixtures("library")

THREADS = 4


def passed(index: int, pool: int) -> list[Tensor]:
    """What layers of its own give for numbers of its own; shapes are shared between threads."""
    torch.set_num_threads(pool)  # which is of the calling thread
    generator = torch.Generator().manual_seed(index)
    found = []
    for repeat in range(5):
        kind = (switchnorm.SwitchNorm2d, switchnorm.SparseSwitchNorm2d)[repeat % 2]
        layout = (torch.contiguous_format, torch.channels_last)[index % 2]
        layer = kind(12)
        shape = (3, 12, 40 + repeat, 37)
        x, dy = (torch.randn(shape, generator=generator).contiguous(memory_format=layout) for _ in range(2))
        y = layer(x.requires_grad_(), None, "relu")
        found += [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], dy), layer.running_var]
    return found


@pytest.mark.parametrize("pool", [1, 3])
def test_threads_of_a_program_do_not_disturb_each_other(pool: int) -> None:
    """The same bits as one after the other, whatever torch's pool."""
    before = torch.get_num_threads()
    try:
        expected = [passed(index, pool) for index in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as threads:
            found = [*threads.map(passed, range(THREADS), [pool] * THREADS)]
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)
