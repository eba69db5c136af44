"""SSN whose mean and variance choose alike."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import switchnorm
from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm2d

APART = (torch.tensor([3.0, 1, 0]), torch.tensor([0.0, 1, 3]))


def apart():
    """A layer whose mean chooses instance and whose variance chooses batch."""
    layer = SparseSwitchNorm2d(4)
    with torch.no_grad():
        layer.mean_weight.copy_(APART[0])
        layer.var_weight.copy_(APART[1])
    return layer


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_both_choices_stay_one(optimizer):
    torch.manual_seed(0)
    layer = SparseSwitchNorm2d(4, tied=True)
    steps = optimizer(layer.parameters(), lr=0.1)
    for radius in (0.0, 0.3, 1.0):
        layer.set_radius(radius)
        steps.zero_grad()
        (layer(torch.randn(3, 4, 5, 5) + torch.arange(4.0).view(4, 1, 1)) * torch.randn(3, 4, 5, 5)).sum().backward()
        steps.step()
        assert torch.equal(layer.mean_weight, layer.var_weight)
        assert torch.equal(*layer.importance())
    assert len(set(layer.mean_weight.tolist())) == 3
    assert layer.harden()
    assert layer.mean_fixed == layer.var_fixed == 1


def test_it_computes_what_one_importance_computes():
    torch.manual_seed(0)
    tied, free = SparseSwitchNorm2d(4, tied=True), SparseSwitchNorm2d(4)
    logits = torch.tensor([0.2, 0.5, 0.1])
    for layer in (tied, free):
        for parameter in (layer.mean_weight, layer.var_weight):
            parameter.data.copy_(logits)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(tied(x), free(x))
    weights = torch.randn(2, 4, 3, 3)
    for layer in (tied, free):
        layer.zero_grad()
        (layer(x) * weights).sum().backward()
    # The gradient of one choice is that of both, half for each of its two logits.
    both = free.mean_weight.grad + free.var_weight.grad
    torch.testing.assert_close(tied.mean_weight.grad, both / 2)
    torch.testing.assert_close(tied.var_weight.grad, both / 2)


def test_a_file_with_two_choices_becomes_one_and_says_so():
    source = apart()
    source.set_radius(1)
    source.harden()
    layer = SparseSwitchNorm2d(4, tied=True)
    with pytest.warns(UserWarning, match="logits of mean and variance differ"):
        layer.load_state_dict(source.state_dict())
    assert torch.equal(*layer.importance())
    assert layer.mean_weight.tolist() == layer.var_weight.tolist() == [0.5, 0, 0.5]
    assert layer.mean_fixed == layer.var_fixed == 0


def test_a_file_of_its_own_is_read_without_a_word(recwarn):
    source = SparseSwitchNorm2d(4, tied=True)
    source.set_radius(1)
    source.set_importance([0, 0, 1], [0, 0, 1])
    source.harden()
    layer = SparseSwitchNorm2d(4, tied=True)
    layer.load_state_dict(source.state_dict())
    assert layer.importance()[0].tolist() == [0, 0, 1]
    assert layer.mean_fixed == layer.var_fixed == 1
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.tied
        assert "tied=True" in repr(other)
    assert layer.unharden()
    assert torch.equal(*layer.importance())
    assert not recwarn.list


def test_what_cannot_be_tied_is_refused():
    layer = SparseSwitchNorm2d(4, tied=True)
    with pytest.raises(InputError, match="one importance for mean and variance"):
        layer.set_importance([1, 0, 0], [0, 0, 1])
    assert layer.importance()[0].tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(InputError, match="tied must be true or false, got 'yes'"):
        SparseSwitchNorm2d(4, tied="yes")
    with pytest.raises(InputError, match="tied choices are those of 'ssn', not of 'sn'; leave tied out"):
        switchnorm.create_model("cifar_resnet20", norm="sn", tied=True)
    with pytest.raises(InputError, match="tied needs a norm for 'resnet18'; the nearest valid norm is 'ssn'"):
        switchnorm.create_model("resnet18", tied=True)
    with pytest.raises(InputError, match="no normalization; leave tied out"):
        switchnorm.create_model("cifar_alexnet", tied=True)
    with pytest.raises(InputError, match="option of 'sn' 'tied' is unknown"):
        switchnorm.switch(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "sn", tied=True)


@pytest.mark.parametrize("norm", ["bn", "sn", "ssn"])
def test_a_switch_ties(norm):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), layers.Spec.parse(norm).layer(4))
    if norm != "bn":
        net[1].set_importance([0.6, 0.2, 0.2], [0.2, 0.2, 0.6])
    switchnorm.switch(net, "ssn", start="source", tied=True)
    mean, var = net[1].importance()
    assert torch.equal(mean, var)
    if norm != "bn":
        torch.testing.assert_close(mean, torch.tensor([0.4, 0.2, 0.4]))
    # And back: the importance is kept.
    switchnorm.switch(net, "ssn", start="source", tied=False)
    torch.testing.assert_close(net[1].importance()[0], mean)
    assert not net[1].tied


def test_networks_by_name():
    model = switchnorm.create_model("cifar_resnet20", norm="ssn", tied=True)
    found = [module for module in model.modules() if isinstance(module, layers.SparseSwitchNorm)]
    assert len(found) == 21
    assert all(layer.tied for layer in found)
    names = {"body": "bn", "box": "ssn"}
    detector = switchnorm.create_model("resnet18_fpn+faster_4conv1fc", norm="bn", norms=names, tied=True)
    found = [module for module in detector.modules() if isinstance(module, layers.SparseSwitchNorm)]
    assert found
    assert all(layer.tied for layer in found)
