"""What is counted as kept and as held."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.memory import peak_bytes, saved_bytes


def test_saved_bytes_leave_out_what_was_given() -> None:
    x = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: x * x, [x]) == 0
    assert saved_bytes(lambda: x.exp(), [x]) == 4000
    # Both multiplications keep views of one tensor.
    assert saved_bytes(lambda: (e := x + 1)[:10] * e[10:20], [x]) == 4000


def test_batch_norm_saves_its_statistics() -> None:
    x, norm = torch.randn(4, 8, 5, 5, requires_grad=True), nn.BatchNorm2d(8)
    assert saved_bytes(lambda: norm(x), [x, *norm.parameters(), *norm.buffers()]) == 2 * 8 * 4


def test_peak_bytes_count_what_is_held_at_a_time() -> None:
    x = torch.randn(1 << 18)

    def chain() -> Tensor:
        y = x
        for _ in range(5):
            y = y + 1  # The one before is freed each time.
        return y

    peak = peak_bytes(chain, "cpu")
    assert 2 * 4 * (1 << 18) <= peak < 2 * 4 * (1 << 18) + 100  # A few bytes for each number 1.
