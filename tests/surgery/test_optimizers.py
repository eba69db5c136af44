"""What is said of an optimizer that was made before a switch, and when nothing is."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from switchnorm import parameter_groups, switch
from switchnorm.surgery import optimizers
from switchnorm.surgery.optimizers import OptimizerWarning

NORMS: dict[str, Callable[[], nn.Module]] = {
    "bare": lambda: nn.InstanceNorm2d(4),
    "frozen": lambda: FrozenBatchNorm2d(4),
    "batch": lambda: nn.BatchNorm2d(4),
}


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """Networks of other tests may wait for an optimizer."""
    gc.collect()
    yield
    optimizers._switched.clear()


def network(norm: str) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), NORMS[norm](), nn.ReLU(), nn.Conv2d(4, 4, 3), NORMS[norm]())


def train(model: nn.Module, *steps: torch.optim.Optimizer, times: int = 3) -> None:
    for _ in range(times):
        (model(torch.randn(4, 3, 7, 8)) - 1).square().mean().backward()
        for optimizer in steps:
            optimizer.step()


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("norm", "spec", "name"),
    [
        ("bare", "sn", "'1.mean_weight' and 3 more new ones"),
        ("bare", "ssn", "'1.mean_weight' and 3 more new ones"),
        ("frozen", "gn", "'1.weight' and 3 more new ones"),
        ("frozen", "sn", "'1.weight' and 7 more new ones"),
        ("batch", "bcn", "'1.channel_weight' and 3 more new ones"),
    ],
)
def test_an_optimizer_that_lacks_new_parameters_is_named_once(norm: str, spec: str, name: str) -> None:
    model = network(norm)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    switch(model, spec, start="source")
    with quiet():
        train(model, sgd, times=1)
    with pytest.warns(OptimizerWarning, match=f"SGD was made before the switch and lacks parameter {name}") as said:
        train(model, sgd)
    assert len(said) == 1
    assert said[0].filename == __file__


def test_nothing_is_said_of_optimizers_that_have_all_between_them() -> None:
    model = network("frozen")
    before = torch.optim.SGD(model.parameters(), lr=0.01)
    switch(model, "sn")
    new = [p for part in (model[1], model[4]) for p in part.parameters()]
    with quiet():
        train(model, before, torch.optim.AdamW(new, lr=0.01))
        other = switch(network("bare"), "ssn", start="equal")
        train(other, torch.optim.SGD(parameter_groups(other, lr=0.01)))
    assert not optimizers._switched
    assert not optimizers._hooks, "no step is looked at any more"


def test_nor_of_those_that_train_something_else_or_nothing_new() -> None:
    with quiet():
        model = network("frozen")
        head = torch.optim.SGD(model[3].parameters(), lr=0.01)
        model[0].requires_grad_(False)
        model[3].requires_grad_(False)
        switch(model, "gn")  # scale and shift stay constant, as the convolutions do
        model[3].requires_grad_(True)
        train(model, head)
        switched = switch(network("bare"), "sn", start="equal")
        other = network("batch")
        train(other, torch.optim.SGD(other.parameters(), lr=0.01))
        del switched
        gc.collect()
        train(other, torch.optim.SGD(other.parameters(), lr=0.01))
    assert not optimizers._switched, "what is gone is forgotten"
