"""What checkpoints hold of the running statistics of several processes."""

import copy

import pytest
import torch
from torch import nn

from switchnorm.tasks import process_statistics
from switchnorm.tasks.mean import own_sum
from switchnorm.tasks.process_statistics import KEY, keep_mean, take_own


class Net(nn.Module):
    """One layer under two names, and another."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.again = nn.BatchNorm2d(2)
        self.other = nn.BatchNorm2d(2)


@pytest.fixture
def two(monkeypatch):
    """A second process, whose statistics and counters are larger by 2, but for those of the layer "other"."""

    def gathered(tensors):
        return {key: torch.stack((value, value + (0 if "other" in key else 2))) for key, value in tensors.items()}

    monkeypatch.setattr(process_statistics, "gathered", gathered)


def checkpoint(net: nn.Module, **more):
    return {"state_dict": copy.deepcopy(net.state_dict()), **more}


def test_states_hold_the_mean_and_each_process_finds_its_own(two):
    net = Net()
    saved = checkpoint(net, trained_state_dict={k: v + 10 for k, v in copy.deepcopy(net.state_dict()).items()})
    keep_mean(net, saved)
    for state, offset in (("state_dict", 0), ("trained_state_dict", 10)):
        for name in ("one", "again"):
            assert torch.equal(saved[state][f"{name}.running_mean"], torch.full((2,), offset + 1.0))
            assert torch.equal(saved[state][f"{name}.running_var"], torch.full((2,), offset + 2.0))
        assert torch.equal(saved[state]["other.running_mean"], torch.full((2,), float(offset)))
        assert saved[state]["one.num_batches_tracked"] == offset + 2, "the largest"
        names = ("running_mean", "running_var", "num_batches_tracked")
        assert saved[KEY][state].keys() == {f"{n}.{m}" for n in ("one", "again") for m in names}
    for rank in range(2):
        read = copy.deepcopy(saved)
        take_own(read, rank, 2)
        for state, offset in (("state_dict", 0), ("trained_state_dict", 10)):
            assert torch.equal(read[state]["again.running_mean"], torch.full((2,), offset + 2.0 * rank))
            assert torch.equal(read[state]["one.running_var"], torch.full((2,), offset + 1 + 2.0 * rank))
            assert read[state]["one.num_batches_tracked"] == offset + 2 * rank


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (2, 3)])
def test_another_number_of_processes_starts_from_the_mean(two, rank, world):
    net = Net()
    saved = checkpoint(net)
    keep_mean(net, saved)
    read = copy.deepcopy(saved)
    take_own(read, rank, world)
    assert all(torch.equal(value, saved["state_dict"][key]) for key, value in read["state_dict"].items())


def test_one_process_writes_what_it_always_wrote():
    net = Net()
    saved = checkpoint(net)
    keep_mean(net, saved)
    assert saved.keys() == {"state_dict"}
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in saved["state_dict"].items())
    take_own(saved, 0, 1)


def test_sums_stay_the_same_in_total_whoever_goes_on_with_them():
    each = torch.tensor([3.0, 4.0, 5.0])
    assert [float(own_sum(each, rank, 3)) for rank in range(3)] == [3, 4, 5]
    assert [float(own_sum(each, rank, 2)) for rank in range(2)] == [12, 0]
    assert float(own_sum(torch.tensor(7.0), 0, 1)) == 7
    assert [float(own_sum(torch.tensor(7.0), rank, 2)) for rank in range(2)] == [7, 0]
