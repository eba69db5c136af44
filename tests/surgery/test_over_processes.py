"""The mean over processes; that of real ones is in tests/training/test_process_statistics.py."""

import pytest
import torch
from torch import nn

from switchnorm.surgery import average_statistics
from switchnorm.surgery.over_processes import gathered, process_mean


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_all_processes_share_stays_bit_for_bit(world, dtype):
    each = torch.randn(4, 5).to(dtype).expand(world, 4, 5)
    assert torch.equal(process_mean(each), each[0])
    assert process_mean(each).dtype == dtype


def test_what_differs_becomes_the_mean_and_the_rest_stays():
    each = torch.randn(3, 2, 5)
    each[:, 1, 3] = 0.1
    expected = sum(each.double().unbind()) / 3
    found = process_mean(each)
    torch.testing.assert_close(found, expected.float(), rtol=1e-7, atol=0)
    assert found[1, 3] == each[0, 1, 3]


def test_of_counters_the_largest_counts():
    """A process without samples in some batch has counted fewer."""
    assert process_mean(torch.tensor([[3, 4], [4, 4], [2, 4]])).tolist() == [4, 4]


def test_one_process_has_its_own():
    net = nn.BatchNorm2d(3)
    net.running_mean.copy_(torch.tensor([0.1, 0.2, 0.3]))
    before = net.running_mean.clone()
    average_statistics(net)
    assert torch.equal(net.running_mean, before)
    assert gathered({"mean": net.running_mean})["mean"].shape == (1, 3)
