import torch
from torch import nn

from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.tasks import Classification
from switchnorm.training.config import OptimizerConfig
from switchnorm.training.optimizer import parameter_groups


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4), nn.Conv2d(4, 4, 3), SparseSwitchNorm2d(4))


def test_every_parameter_is_in_exactly_one_group():
    model = network()
    grouped = [id(p) for group in parameter_groups(model, OptimizerConfig()) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_importance_logits_are_trained_as_published():
    model = network()
    config = OptimizerConfig(lr=0.2, weight_decay=3e-4)
    rest, switchable, sparse = parameter_groups(model, config)
    assert (rest["lr"], rest["weight_decay"]) == (0.2, 3e-4)
    assert {id(p) for p in switchable["params"]} == {id(model[1].mean_weight), id(model[1].var_weight)}
    assert (switchable["lr"], switchable["weight_decay"]) == (0.2, 0)
    assert {id(p) for p in sparse["params"]} == {id(model[3].mean_weight), id(model[3].var_weight)}
    assert (sparse["lr"], sparse["weight_decay"], sparse["max_norm"]) == (0.2 * 0.1, 0, 1.0)


def test_networks_without_switchable_layers_have_one_group():
    assert len(parameter_groups(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), OptimizerConfig())) == 1


def test_frozen_parameters_are_left_out():
    model = network().requires_grad_(False)
    model[0].weight.requires_grad_(True)
    ((group),) = parameter_groups(model, OptimizerConfig())
    assert group["params"] == [model[0].weight]


def test_only_groups_with_a_largest_norm_are_clipped():
    model = network()
    optimizer = torch.optim.SGD(parameter_groups(model, OptimizerConfig()), lr=0.1)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    Classification(model, 10).configure_gradient_clipping(optimizer)
    sparse = torch.cat([model[3].mean_weight.grad, model[3].var_weight.grad])
    torch.testing.assert_close(sparse.norm(), torch.tensor(1.0), atol=1e-5, rtol=0)
    others = [p for p in model.parameters() if p is not model[3].mean_weight and p is not model[3].var_weight]
    assert all((p.grad == 7).all() for p in others)
