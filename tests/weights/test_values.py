"""Weights that would make every result wrong are refused by key, wherever they are loaded."""

import pytest
import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.training.warm_start import warm_start
from switchnorm.weights import convert, load_published, load_state


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def state(**changes) -> dict[str, torch.Tensor]:
    return {**network().state_dict(), **{key.replace("_", ".", 1): value for key, value in changes.items()}}


WRONG = {
    "complex": ({"0_weight": torch.randn(4, 3, 3, 3, dtype=torch.complex64)}, "0.weight holds complex64; expected"),
    "whole numbers": ({"0_weight": torch.ones(4, 3, 3, 3, dtype=torch.int64)}, "0.weight holds int64; expected"),
    "eight bits": ({"0_bias": torch.ones(4).to(torch.float8_e4m3fn)}, "0.bias holds float8_e4m3fn; expected"),
    "no numbers": ({"0_bias": torch.tensor([1.0, float("nan"), 2, float("inf")])}, "0.bias holds 2 numbers that are"),
    "a negative variance": ({"1_running_var": torch.tensor([1.0, -0.5, 1, 1])}, "1.running_var holds -0.5; a variance"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_numbers_are_refused_by_key_and_nothing_is_loaded(tmp_path, wrong):
    changes, message = WRONG[wrong]
    torch.save(state(**changes), tmp_path / "x.pth")
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for load in (
        lambda: load_state(model, state(**changes), "it"),
        lambda: load_published(model, tmp_path / "x.pth"),
        lambda: warm_start(model, tmp_path / "x.pth"),
    ):
        with pytest.raises(InputError) as caught:
            load()
        assert message in str(caught.value)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_half_precision_counters_and_what_the_network_itself_has_are_taken():
    model = network()
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    half = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    load_state(model, half, "it")


def test_one_file_is_no_encoder_and_decoder(tmp_path):
    torch.save(state(), tmp_path / "x.pth")
    (tmp_path / "link.pth").symlink_to(tmp_path / "x.pth")
    with pytest.raises(InputError, match="cannot be encoder and decoder"):
        convert(tmp_path / "x.pth", tmp_path / "y.safetensors", decoder=tmp_path / "link.pth")
    with pytest.raises(InputError, match="cannot be encoder and decoder"):
        warm_start(network(), tmp_path / "x.pth", tmp_path / "x.pth")
