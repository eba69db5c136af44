import pytest
import torch

from switchnorm.data import Share
from switchnorm.errors import InputError


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, 5, 12])
def test_shares_follow_one_another_and_differ_by_one_at_most(world, size):
    places = list(range(100))
    shares = [places[Share(rank, world).of(20, size)] for rank in range(world)]
    assert [place for share in shares for place in share] == places[20 : 20 + size]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_default_is_the_whole_on_the_cpu():
    assert Share() == Share(rank=0, world=1, device="cpu")
    assert Share().of(3, 4) == slice(3, 7)
    assert torch.device(Share().device).type == "cpu"


@pytest.mark.parametrize("rank", [2, -1])
def test_a_process_that_is_none_is_refused(rank):
    with pytest.raises(InputError, match=f"rank {rank} is not one of 2 processes; ranks run from 0 to 1"):
        Share(rank, 2)
