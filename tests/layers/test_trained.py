"""What is said of layers whose training lacks something, and of whom nothing is said."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from switchnorm import (
    SparseSchedule,
    SparseSwitchNorm2d,
    SwitchNorm2d,
    calibrate,
    harden,
    parameter_groups,
    set_radius,
    switch,
)

RADIUS = r"its radius is still 0.*add switchnorm\.SparseSchedule\(optimizer, model, steps\)"
LOGITS = "its importance logits have not moved: make the optimizer after switch"

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    "fused sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, fused=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "fused adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),
}


def network(spec: str = "ssn") -> nn.Sequential:
    torch.manual_seed(0)
    parts = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    return switch(nn.Sequential(*parts), spec)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(4, 3, 7, 8)) - 1).square().mean().backward()
        optimizer.step()


def evaluate(model: nn.Module) -> None:
    with torch.no_grad():
        model.eval()(torch.randn(2, 3, 7, 8))


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


LOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "evaluate": evaluate,
    "state dict": lambda model: model.state_dict(),
    "save": lambda model: torch.save(model.state_dict(), io.BytesIO()),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_radius_that_nobody_moves_is_named_once(optimizer: str, look: str) -> None:
    model = network()
    sgd = OPTIMIZERS[optimizer](parameter_groups(model, lr=0.01))
    train(model, sgd)
    with pytest.warns(UserWarning, match=RADIUS) as said:
        LOOKS[look](model)
    assert len(said) == 1, "once for all layers"
    with quiet():
        for each in LOOKS.values():
            each(model)
        train(model, sgd)
        evaluate(model)


@pytest.mark.parametrize("spec", ["sn", "ssn"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_logits_that_the_optimizer_does_not_have_are_named_once(optimizer: str, spec: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    sgd = OPTIMIZERS[optimizer](model.parameters())
    switch(model, spec)
    train(model, sgd)
    with pytest.warns(UserWarning, match=LOGITS) as said:
        evaluate(model)
    assert len(said) == 1
    with quiet():
        train(model, sgd)
        evaluate(model)


def test_another_model_is_looked_at_for_itself() -> None:
    for _ in range(2):
        model = network()
        train(model, OPTIMIZERS["sgd"](model.parameters()))
        with pytest.warns(UserWarning, match=RADIUS):
            evaluate(model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("spec", ["sn", "ssn"])
def test_what_is_trained_as_it_should_be_is_quiet(spec: str, optimizer: str) -> None:
    model = network(spec)
    sgd = OPTIMIZERS[optimizer](parameter_groups(model, lr=0.01))
    if spec == "ssn":
        SparseSchedule(sgd, model, 6)
    with quiet():
        for _ in range(3):
            train(model, sgd, 2)
            evaluate(model)
            model.state_dict()


def quiet_cases() -> dict[str, Callable[[], Any]]:
    def by_hand() -> None:
        model = network()
        sgd = OPTIMIZERS["sgd"](model.parameters())
        for epoch in range(3):
            set_radius(model, epoch / 2)
            train(model, sgd)
            evaluate(model)

    def one_step() -> None:
        model = network()
        train(model, OPTIMIZERS["adamw"](model.parameters()), 1)
        evaluate(model)
        model.state_dict()

    def no_step() -> None:
        model = network()
        for _ in range(3):
            model(torch.randn(4, 3, 7, 8)).sum().backward()
        evaluate(model)

    def only_evaluated() -> None:
        model = network()
        model.load_state_dict(network().state_dict())
        evaluate(model)

    def calibrated() -> None:
        model = network()
        calibrate(model, [torch.randn(4, 3, 7, 8) for _ in range(3)])
        evaluate(model)

    def frozen_logits() -> None:
        model = network("sn")
        for layer in model:
            if isinstance(layer, SwitchNorm2d):
                layer.mean_weight.requires_grad_(False)
                layer.var_weight.requires_grad_(False)
        train(model, OPTIMIZERS["fused adamw"](p for p in model.parameters() if p.requires_grad))
        evaluate(model)

    def hardened() -> None:
        model = network()
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, SparseSwitchNorm2d):
                    layer.mean_weight[0] += 1
                    layer.var_weight[1] += 1
        set_radius(model, 1.0)
        harden(model)
        again = network()
        again.load_state_dict(model.state_dict())
        train(again, OPTIMIZERS["fused sgd"](again.parameters()))
        evaluate(again)

    def averaged() -> None:
        model = network()
        average = copy.deepcopy(model)
        SparseSchedule(sgd := OPTIMIZERS["sgd"](model.parameters()), model, 3)
        for _ in range(3):
            train(model, sgd, 1)
            with torch.no_grad():
                for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
                    ours.lerp_(theirs, 0.1)
        evaluate(average)
        average.state_dict()

    def functional() -> None:
        model = network().eval()
        for _ in range(3):
            state = {key: torch.randn_like(value) for key, value in model.named_parameters()}
            torch.func.functional_call(model.train(), state, torch.randn(4, 3, 7, 8))
        torch.func.functional_call(model.eval(), state, torch.randn(4, 3, 7, 8))

    def transformed() -> None:
        model = network()
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())

        def loss(parameters: Any, buffers: Any) -> torch.Tensor:
            return torch.func.functional_call(model, (parameters, buffers), torch.randn(4, 3, 7, 8)).sum()

        for _ in range(3):
            torch.func.grad(loss)(parameters, buffers)
        evaluate(model)

    def without_values() -> None:
        with FakeTensorMode():
            model = nn.Sequential(nn.Conv2d(3, 4, 3), SparseSwitchNorm2d(4))
            train(model, OPTIMIZERS["sgd"](model.parameters()))
            evaluate(model)
            model.state_dict()

    return {case.__name__: case for case in locals().values() if callable(case)}


@pytest.mark.parametrize("case", quiet_cases())
def test_who_is_not_spoken_to(case: str) -> None:
    with quiet():
        quiet_cases()[case]()


def test_compiled_training_is_not_looked_at() -> None:
    model = network()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with quiet():
        train(compiled, OPTIMIZERS["sgd"](model.parameters()))
        compiled.eval()(torch.randn(2, 3, 7, 8))


def test_a_copy_is_looked_at_for_itself() -> None:
    model = network()
    sgd = OPTIMIZERS["sgd"](model.parameters())
    SparseSchedule(sgd, model, 40)
    train(model, sgd)
    set_radius(model, 0.0)
    other = copy.deepcopy(model)
    train(other, OPTIMIZERS["sgd"](other.parameters()))
    with pytest.warns(UserWarning, match=RADIUS):
        evaluate(other)


def test_a_network_that_trains_a_part_later_is_looked_at_then() -> None:
    model = network().requires_grad_(False)
    model[0].requires_grad_(True)
    sgd = OPTIMIZERS["sgd"](model.parameters())
    with quiet():
        train(model, sgd)
        evaluate(model)
    model.requires_grad_(True)
    train(model, sgd)
    with pytest.warns(UserWarning, match=RADIUS):
        evaluate(model)


SINGLE = "trained on maps of a single value, whose instance variance is 0"


def test_maps_of_a_single_value_are_named_once_in_training() -> None:
    layer = SparseSwitchNorm2d(4)
    with quiet():
        layer(torch.randn(5, 4, 1, 2))
        layer.eval()(torch.randn(5, 4, 1, 1))
    with pytest.warns(UserWarning, match=SINGLE):
        layer.train()(torch.randn(5, 4, 1, 1))
    with quiet():
        layer(torch.randn(5, 4, 1, 1))
    with pytest.warns(UserWarning, match=SINGLE):
        copy.deepcopy(layer)(torch.randn(5, 4, 1, 1))


def test_all_layers_together_name_maps_of_a_single_value_once() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(3):
            SparseSwitchNorm2d(4)(torch.randn(5, 4, 1, 1))
    assert len(said) == 1


@pytest.mark.parametrize(
    "layer",
    [SwitchNorm2d(4), SparseSwitchNorm2d(4, ("layer", "batch")), SparseSwitchNorm2d(4, ("batch",))],
)
def test_who_can_have_maps_of_a_single_value(layer: nn.Module) -> None:
    """SN always keeps something of the other variances."""
    with quiet():
        layer(torch.randn(5, 4, 1, 1))


def test_a_variance_of_zero_that_is_chosen_is_what_makes_outputs_grow() -> None:
    layer = SparseSwitchNorm2d(4)
    layer.set_importance((0, 0, 1), (1, 0, 0))
    x = torch.randn(5, 4, 1, 1)
    with pytest.warns(UserWarning, match="differences grow up to 316 times"):
        y = layer(x)
    torch.testing.assert_close(y, (x - x.mean(0)) / 1e-5**0.5)


def test_a_single_statistic_is_as_sparse_as_can_be() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), SparseSwitchNorm2d(4, statistics=("batch",)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        net(torch.randn(2, 3, 6, 5)).sin().sum().backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.eval()(torch.randn(2, 3, 6, 5))


def test_maps_of_a_single_value_without_values_and_under_transforms() -> None:
    with quiet():
        SparseSwitchNorm2d(4, device="meta")(torch.empty(5, 4, 1, 1, device="meta"))
        layer = SparseSwitchNorm2d(4, track_running_stats=False)
        torch.func.vmap(layer)(torch.randn(2, 5, 4, 1, 1))
