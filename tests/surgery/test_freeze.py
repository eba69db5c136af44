"""Frozen parts stay bit for bit, whatever is done to the model around them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from switchnorm import InputError, parameter_groups, surgery, switch
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.surgery.freeze import is_frozen


def network(norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    torch.manual_seed(0)

    def block(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), norm(4), nn.Dropout(0.5))

    return nn.Sequential(block(3), block(4), nn.Conv2d(4, 2, 1))


def train(model: nn.Module, steps: int = 3) -> None:
    """Steps with weight decay and momentum."""
    groups = parameter_groups(model, lr=0.5, weight_decay=0.1)
    optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
    for step in range(steps):
        model.train()
        images = torch.randn(5, 3, 6, 7, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, SwitchNorm2d, SparseSwitchNorm2d])
def test_nothing_of_a_frozen_part_changes_in_training_and_calibration(norm):
    model = network(norm)
    assert surgery.freeze(model, ["0"]) == ["0"]
    before = copy.deepcopy(model.state_dict())
    train(model)
    surgery.calibrate(model, [torch.randn(4, 3, 5, 6) for _ in range(2)])
    if norm is SparseSwitchNorm2d:
        surgery.set_radius(model, 1.0)
        surgery.harden(model)
    moved = changed(model, before)
    assert not [key for key in moved if key.startswith("0.")]
    kept = {key for key in before if not key.startswith("0.")}
    logits = {key for key in kept if "weight" in key and ("mean_" in key or "var_" in key)}
    assert kept - moved <= logits | {"1.1.mean_fixed", "1.1.var_fixed"}, "all else is trained"
    assert (norm is SparseSwitchNorm2d) == ("1.1.radius" in moved)


def test_choices_of_a_frozen_part_are_not_opened_again():
    model = network(SparseSwitchNorm2d)
    for layer in (model[0][1], model[1][1]):
        layer.set_importance([0, 1, 0], [0, 0, 1])
        layer.set_radius(1)
        layer.harden()
    surgery.freeze(model, ["0"])
    before = copy.deepcopy(model.state_dict())
    assert surgery.unharden(model) == 1
    assert {key.split(".")[0] for key in changed(model, before)} == {"1"}


def test_a_frozen_part_does_not_become_alike():
    reference = network()
    reference(torch.randn(8, 3, 6, 7) * 3 + 1)
    model = switch(copy.deepcopy(reference), "gn")
    surgery.freeze(model, ["0"])
    before = copy.deepcopy(model.state_dict())
    surgery.calibrate(model, [torch.randn(8, 3, 6, 7) * 3 + 1], like=reference)
    assert {key.split(".")[0] for key in changed(model, before)} == {"1"}


def test_copies_and_pickles_are_frozen_too_and_stand_for_themselves():
    model = network()
    surgery.freeze(model, "0")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.train()
        assert [module.training for module in other[0].modules()] == [False] * 4
        assert other[1][1].training
        assert is_frozen(other[0][1])
        before = copy.deepcopy(other.state_dict())
        train(other)
        assert not [key for key in changed(other, before) if key.startswith("0.")]
    assert not model[0].training


def test_a_frozen_batch_norm_normalizes_by_its_running_statistics_whatever_batches_count():
    model = network()
    train(model, 1)
    surgery.freeze(model, ["0.1"])
    images = torch.randn(4, 3, 5, 6)
    with surgery.batch_statistics(model):
        seen = model[0][1](images.repeat(1, 2, 1, 1)[:, :4])
    layer = model[0][1]
    expected = nn.functional.batch_norm(
        images.repeat(1, 2, 1, 1)[:, :4], layer.running_mean, layer.running_var, layer.weight, layer.bias
    )
    torch.testing.assert_close(seen, expected)
    assert model[0][0].weight.requires_grad, "the glob names the normalization alone"


def test_a_glob_takes_whole_modules_and_one_that_matches_none_is_refused():
    model = network()
    assert surgery.freeze(model, ["0.*", "2"]) == ["0.0", "0.1", "0.2", "2"]
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        *("1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias")
    }
    with pytest.raises(InputError, match=r"'body\.stm' matches no module; the nearest"):
        surgery.freeze(nn.ModuleDict({"body": nn.ModuleDict({"stem": nn.ReLU()})}), ["body.stm"])


@pytest.mark.parametrize("norm", ["sn", "gn+ws"])
def test_a_switch_leaves_frozen_parts_frozen(norm):
    model = network()
    surgery.freeze(model, "0")
    model = switch(model, norm)
    before = copy.deepcopy(model.state_dict())
    assert is_frozen(model[0][1])
    assert not is_frozen(model[1][1])
    train(model)
    moved = changed(model, before)
    assert not any(key.startswith("0.") for key in moved)
    assert {"1.1.weight", "1.1.bias", "1.0.weight"} <= moved
