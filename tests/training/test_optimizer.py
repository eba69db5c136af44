from dataclasses import replace

import pytest
import torch
from torch import nn

from switchnorm.config.schema import Config, GroupConfig, ModelConfig, OptimizerConfig, TrainConfig
from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.tasks import Classification
from switchnorm.training.optimizer import current_lr, effective_lr, make_optimizer, parameter_groups


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


def names_by_rule(model: nn.Module, groups) -> dict[tuple[float, float], set[str]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {(g["lr"], g["weight_decay"]): {names[id(p)] for p in g["params"]} for g in groups}


def test_the_first_glob_that_matches_decides():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    config = OptimizerConfig(lr=1.0, weight_decay=0.1)
    config.groups = [GroupConfig("0.*", lr_factor=0.5), GroupConfig("*.bias", weight_decay=0.0)]
    assert names_by_rule(model, parameter_groups(model, config)) == {
        (1.0, 0.1): {"1.weight", "2.weight"},
        (0.5, 0.1): {"0.weight", "0.bias"},
        (1.0, 0.0): {"1.bias", "2.bias"},
    }


def test_importance_logits_follow_a_groups_rate_and_keep_their_own_rules():
    model = network()
    config = OptimizerConfig(lr=1.0, weight_decay=0.1, groups=[GroupConfig("*", lr_factor=0.5, weight_decay=0.3)])
    rest, switchable, sparse = parameter_groups(model, config)
    assert (rest["lr"], rest["weight_decay"]) == (0.5, 0.3)
    assert (switchable["lr"], switchable["weight_decay"]) == (0.5, 0)
    assert (sparse["lr"], sparse["weight_decay"], sparse["max_norm"]) == (0.5 * 0.1, 0, 1.0)


def test_logits_decay_where_that_is_asked_for_but_for_sparse_ones():
    model = network()
    config = OptimizerConfig(weight_decay=0.1, decay_logits=True, groups=[GroupConfig("1.mean*", weight_decay=0.3)])
    decays = {id(p): group["weight_decay"] for group in parameter_groups(model, config) for p in group["params"]}
    assert (decays[id(model[1].mean_weight)], decays[id(model[1].var_weight)]) == (0.3, 0.1)
    assert (decays[id(model[3].mean_weight)], decays[id(model[3].var_weight)]) == (0, 0)
    config = replace(config, decay_norms=False, groups=[])
    decays = {id(p): group["weight_decay"] for group in parameter_groups(model, config) for p in group["params"]}
    assert (decays[id(model[1].mean_weight)], decays[id(model[1].weight)], decays[id(model[0].bias)]) == (0.1, 0, 0)


def test_sparse_logits_are_clipped_together_whatever_their_groups():
    model = nn.Sequential(SparseSwitchNorm2d(4), SparseSwitchNorm2d(4))
    config = OptimizerConfig(groups=[GroupConfig("0.*", lr_factor=0.5)])
    optimizer = torch.optim.SGD(parameter_groups(model, config), lr=0.1)
    logits = [p for m in model for p in (m.mean_weight, m.var_weight)]
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    Classification(model, 10).configure_gradient_clipping(optimizer)
    torch.testing.assert_close(torch.cat([p.grad for p in logits]).norm(), torch.tensor(1.0), atol=1e-5, rtol=0)


def test_norms_and_biases_can_go_without_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    groups = parameter_groups(model, OptimizerConfig(lr=1.0, weight_decay=0.1, decay_norms=False))
    assert names_by_rule(model, groups) == {
        (1.0, 0.1): {"0.weight", "3.weight"},
        (1.0, 0.0): {"0.bias", "1.weight", "1.bias", "3.bias"},
    }


def test_groups_that_decide_nothing_are_named():
    model = network()
    with pytest.raises(InputError, match=r"'layer1\.\*' matches no parameter; the nearest is '"):
        parameter_groups(model, OptimizerConfig(groups=[GroupConfig("layer1.*")]))
    with pytest.raises(InputError, match=r"earlier globs match all that '0\.weight' matches"):
        parameter_groups(model, OptimizerConfig(groups=[GroupConfig("0.*"), GroupConfig("0.weight")]))


def test_the_rate_scales_with_the_samples_of_a_step():
    train = TrainConfig(epochs=2, batch_size=32, iteration_size=4)
    config = Config(ModelConfig("x"), {}, train, OptimizerConfig(lr=0.1, lr_per=256))
    assert effective_lr(config) == pytest.approx(0.1 * 128 / 256)
    assert effective_lr(replace(config, optimizer=OptimizerConfig(lr=0.1))) == 0.1
    optimizer, schedule = make_optimizer(network(), total_steps=10, config=config)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert current_lr(optimizer) == pytest.approx(0.05)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert current_lr(optimizer) == pytest.approx(0.025), "half of a cosine is left"


def test_the_rate_that_is_reported_is_the_whole_one():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    groups = [GroupConfig("*.bias", lr_factor=0.0), GroupConfig("*", lr_factor=0.25)]
    optimizer = torch.optim.SGD(parameter_groups(model, OptimizerConfig(lr=0.4, groups=groups)), lr=0.4)
    assert current_lr(optimizer) == pytest.approx(0.4)


def test_biases_learn_at_a_rate_of_their_own_and_with_all_of_norms_do_not_decay():
    """As published for detectors: twice the rate for biases and shifts, no decay of these, of scales and of logits."""
    model = network()
    config = OptimizerConfig(lr=1.0, weight_decay=0.1, decay_norms=False, bias_lr_factor=2.0)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, config)
    assert [(g["lr"], g["weight_decay"], {names[id(p)] for p in g["params"]}) for g in groups] == [
        (1.0, 0.1, {"0.weight", "2.weight"}),
        (1.0, 0.0, {"1.weight", "3.weight"}),
        (2.0, 0.0, {"0.bias", "1.bias", "2.bias", "3.bias"}),
        (1.0, 0.0, {"1.mean_weight", "1.var_weight"}),
        (0.1, 0.0, {"3.mean_weight", "3.var_weight"}),
    ]
    optimizer = torch.optim.SGD(parameter_groups(model, config), lr=1.0)
    assert current_lr(optimizer) == 1.0
    config.groups = [GroupConfig("0.*", lr_factor=0.5)]
    rates = {id(p): group["lr"] for group in parameter_groups(model, config) for p in group["params"]}
    assert (rates[id(model[0].weight)], rates[id(model[0].bias)]) == (0.5, 1.0)
