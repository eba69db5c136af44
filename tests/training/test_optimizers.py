"""Optimizers by name: what they are, what they take, and that resuming them loses nothing."""

import io
from dataclasses import replace

import pytest
import torch
from torch import nn

from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.config.schema import Config, GroupConfig, ModelConfig, OptimizerConfig, TrainConfig
from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.launch import resume, start
from switchnorm.training.optimizer import make_optimizer
from switchnorm.training.optimizers import idle_keys, optimizer_of, optimizers
from tests.training.trainings import StoppedError, stopping


def network() -> nn.Module:
    torch.manual_seed(3)
    layers = (nn.Conv2d(3, 5, 3), SwitchNorm2d(5), nn.Conv2d(5, 4, 3), SparseSwitchNorm2d(4), nn.Flatten(2))
    return nn.Sequential(*layers)


def made(model: nn.Module, **settings):
    config = Config(ModelConfig("x"), {}, TrainConfig(epochs=2, batch_size=4), OptimizerConfig(**settings))
    return make_optimizer(model, total_steps=6, config=config)


def advance(model, optimizer, schedule, steps) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
        schedule.step()


def test_sgd_is_what_it_was_without_a_name():
    plain, named = network(), network()
    advance(plain, *made(plain, lr=0.1), range(4))
    reference = torch.optim.SGD(named.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    optimizer, _ = made(network(), lr=0.1)
    assert type(optimizer) is torch.optim.SGD
    assert {group["momentum"] for group in optimizer.param_groups} == {reference.defaults["momentum"]}
    assert {group["nesterov"] for group in optimizer.param_groups} == {True}
    assert (OptimizerConfig().momentum, OptimizerConfig().nesterov) == (0.9, True)


def test_the_usual_ones_are_there_by_name():
    assert {"sgd", "adam", "adamw", "rmsprop", "nadam", "radam", "adagrad", "adafactor"} <= set(optimizers())
    assert all(name == kind.__name__.lower() for name, kind in optimizers().items())


@pytest.mark.parametrize("name", optimizers())
def test_each_keeps_the_groups_and_resumes_bit_for_bit(name):
    settings = {"name": name, "lr": 0.01, "weight_decay": 0.1, "groups": [GroupConfig("0.*", lr_factor=0.5)]}
    whole, stopped = network(), network()
    optimizer, schedule = made(whole, **settings)
    rules = [(group["lr_factor"], group["weight_decay"], group.get("max_norm")) for group in optimizer.param_groups]
    assert rules == [(1, 0.1, None), (0.5, 0.1, None), (1, 0.0, None), (0.1, 0.0, 1.0)]
    advance(whole, optimizer, schedule, range(6))
    optimizer, schedule = made(stopped, **settings)
    advance(stopped, optimizer, schedule, range(3))
    file = io.BytesIO()
    torch.save([each.state_dict() for each in (stopped, optimizer, schedule)], file)
    file.seek(0)
    resumed = network()
    optimizer, schedule = made(resumed, **settings)
    for each, state in zip((resumed, optimizer, schedule), torch.load(file, weights_only=True), strict=True):
        each.load_state_dict(state)
    advance(resumed, optimizer, schedule, range(3, 6))
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
        assert value.isfinite().all()
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), network().parameters(), strict=True))


def test_options_reach_the_constructor():
    optimizer, _ = made(network(), name="adamw", lr=0.01, options={"betas": [0.8, 0.95], "eps": 1e-6, "amsgrad": True})
    assert type(optimizer) is torch.optim.AdamW
    assert list(optimizer.defaults["betas"]) == [0.8, 0.95]
    assert (optimizer.defaults["eps"], optimizer.defaults["amsgrad"]) == (1e-6, True)
    assert optimizer_of(OptimizerConfig(name="adafactor", options={"eps": [None, 0.01]})).keywords["eps"] == [
        None,
        0.01,
    ]
    optimizer, _ = made(network(), name="rmsprop", lr=0.01, momentum=0.7)
    assert optimizer.defaults["momentum"] == 0.7
    assert made(network(), name="rmsprop", lr=0.01)[0].defaults["momentum"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adamww"}, "optimizer 'adamww' is unknown; did you mean 'adamw'?"),
        ({"name": "AdamW"}, "optimizer 'AdamW' is unknown; did you mean 'adamw'?"),
        ({"name": "lbfgs"}, "optimizer 'lbfgs' evaluates the loss several times in a step; the nearest is 'sgd'"),
        ({"name": "sparseadam"}, "optimizer 'sparseadam' takes sparse gradients alone; the nearest is 'adam'"),
        ({"name": "muon"}, "optimizer 'muon' takes matrices alone; the nearest is 'adamw'"),
        (
            {"name": "adamw", "options": {"beta": [0.9, 0.99]}},
            "option of adamw 'beta' is unknown; did you mean 'betas'?",
        ),
        ({"name": "adam", "options": {"fused": True}}, "option of adam 'fused' is unknown"),
        ({"name": "adamw", "options": {"lr": 0.1}}, "optimizer.options.lr is a key of its own, optimizer.lr"),
        ({"options": {"momentum": 0.1}}, "optimizer.options.momentum is a key of its own, optimizer.momentum"),
        (
            {"name": "adamw", "options": {"betas": 0.9}},
            "optimizer.options.betas must be 2 numbers such as [0.9, 0.999], got 0.9",
        ),
        ({"name": "adamw", "options": {"betas": [0.9]}}, "must be 2 numbers"),
        ({"name": "adamw", "options": {"betas": [0.9, None]}}, "must be 2 numbers"),
        ({"name": "adamw", "options": {"betas": [0.9, 2.0]}}, "optimizer 'adamw': Invalid beta parameter"),
        ({"name": "adam", "options": {"amsgrad": "yes"}}, "optimizer.options.amsgrad must be true or false, got 'yes'"),
        ({"name": "adam", "options": {"eps": "small"}}, "optimizer.options.eps must be a number such as 1e-08, got"),
        ({"name": "adam", "options": {"eps": True}}, "must be a number"),
        ({"name": "adam", "options": {"eps": -1.0}}, "optimizer 'adam': Invalid epsilon value"),
    ],
)
def test_what_torch_does_not_take(settings, message):
    with pytest.raises(InputError) as caught:
        optimizer_of(OptimizerConfig(**settings))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_that_an_optimizer_does_not_take_are_named():
    assert idle_keys(OptimizerConfig()) == []
    assert idle_keys(OptimizerConfig(name="adamw")) == []
    assert idle_keys(OptimizerConfig(name="adamw", momentum=0.9, nesterov=False)) == [
        "optimizer.momentum", "optimizer.nesterov",
    ]  # fmt: skip
    assert idle_keys(OptimizerConfig(name="rmsprop", momentum=0.9)) == []
    assert idle_keys(OptimizerConfig(name="rprop")) == ["optimizer.weight_decay"]
    assert idle_keys(OptimizerConfig(name="rprop", weight_decay=0.0)) == []


def test_the_configuration_keeps_what_null_means(recipe, tmp_path):
    for flags, expected in (
        ((), (0.9, True)),
        (("--optimizer.name", "adamw", "--optimizer.options.betas", "[0.8, 0.9]"), (None, None)),
        (("--optimizer.momentum", "0.5", "--optimizer.nesterov", "null"), (0.5, True)),
    ):
        config = read_config(recipe, flags)
        assert (config.optimizer.momentum, config.optimizer.nesterov) == expected
        file = tmp_path / "config.yaml"
        file.write_text(to_yaml(config))
        assert read_config(file) == config
    assert read_config(recipe, ("--optimizer.options.eps", "1e-6")).optimizer.options == {"eps": 1e-6}


def test_a_run_with_another_optimizer_resumes_bit_for_bit(recipe, tmp_path, monkeypatch):
    flags = ("--optimizer.name", "adamw", "--lr", "0.003", "--optimizer.options.amsgrad", "true", "--epochs", "2")
    config = read_config(recipe, (*flags, "--train.epoch_steps", "3", "--train.checkpoint_minutes", "0"))
    begin = {"default": tmp_path, "command": (), "quiet": True}
    whole, _ = start(config, tmp_path / "whole", **begin)
    with monkeypatch.context() as patched:
        patched.setattr(MidEpochCheckpoint, "on_train_batch_end", stopping(4))
        with pytest.raises(StoppedError):
            start(config, tmp_path / "killed", **begin)
    killed, _ = resume(tmp_path / "killed", quiet=True)
    a, b = (torch.load(run.last, weights_only=True) for run in (whole, killed))
    assert all(torch.equal(value, b["state_dict"][key]) for key, value in a["state_dict"].items())
    for mine, theirs in zip(*(each["optimizer_states"][0]["state"].values() for each in (a, b)), strict=True):
        assert mine.keys() == theirs.keys() == {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


def test_a_wrong_optimizer_leaves_no_run_behind(recipe, tmp_path):
    config = read_config(recipe, ())
    config = replace(config, optimizer=OptimizerConfig(name="adamm"))
    with pytest.raises(InputError, match="did you mean 'adam'"):
        start(config, tmp_path / "run", default=tmp_path, command=(), quiet=True)
    assert not (tmp_path / "run").exists()
