"""Models that keep their layers in more than PyTorch's names, and that read them past a call."""

from __future__ import annotations

import dataclasses
import functools
import types
import weakref
from collections import UserList, deque
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from switchnorm.surgery import SwitchWarning, plan_switch, switch


class Pair(NamedTuple):
    first: nn.Module
    second: object


class Runner:
    """Of no class that PyTorch knows."""

    def __init__(self, layer: nn.Module) -> None:
        self.layers = deque([layer])


class Steps(list):
    """A list that nobody is to write to."""

    def __setitem__(self, index, value):
        raise TypeError("constant")


class Counted(tuple):
    """A tuple with a constructor and an attribute of its own."""

    def __new__(cls, count, *steps):
        made = super().__new__(cls, steps)
        made.count = count
        return made


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    layer: nn.Module
    steps: UserList


class Derived:
    __slots__ = ("__private", "unset")

    def __init__(self, layer: nn.Module) -> None:
        self.__private = layer

    @property
    def layer(self) -> nn.Module:
        return self.__private


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)


class Kept(Block):
    """A normalization in everything that Python has to keep it in."""

    def __init__(self) -> None:
        super().__init__()
        bn = self.bn
        self.steps = [self.conv, bn, nn.ReLU()]
        self.named = {"a": bn, "deep": ([{"b": bn}],)}
        self.pair = Pair(self.conv, (bn, 1))
        self.method = bn.forward
        self.bound = functools.partial(bn, input=None)
        self.inside = functools.partial(map, bn)
        self.function = lambda x: bn(x)
        self.runner = Runner(bn)
        self.space = types.SimpleNamespace(bn=bn)
        self.own = Steps([bn]), Counted(3, bn), frozenset({bn})
        self.constant, self.derived = Constant(bn, UserList([bn])), Derived(bn)
        self.sets = {bn}, weakref.WeakSet([bn]), weakref.ref(bn)
        self.keys = {"first": 0, bn: 1, "last": 2}, weakref.WeakKeyDictionary({bn: bn.eps})
        self.proxies = [weakref.proxy(bn)]  # Which die with the old one.
        object.__setattr__(self, "alias", bn)

    def kept(self) -> list[nn.Module]:
        return [
            *(self.steps[1], self.named["a"], self.named["deep"][0][0]["b"], self.pair.second[0]),
            *(self.method.__self__, self.bound.func, self.inside.args[0]),
            *(self.function.__closure__[0].cell_contents, self.alias, self.runner.layers[0], self.space.bn),
            *(each for group in (*self.own, *self.sets[:2]) for each in group),
            *(self.constant.layer, self.constant.steps[0], self.derived.layer, self.sets[2]()),
            *(list(self.keys[0])[1], *self.keys[1]),
        ]

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x + self.alias(x) + self.function(x) + self.method(x) + self.named["a"](x)


@pytest.mark.parametrize("spec", ["sn", "gn", "ssn+ws"])
def test_all_that_refers_to_a_layer_refers_to_the_new_one(spec):
    model = Kept()
    steps, pair = model.steps, model.pair
    switch(model, spec)
    assert type(model.bn) is not nn.BatchNorm2d
    assert [each is model.bn for each in model.kept()] == [True] * 22
    assert list(model.keys[0].values()) == [0, 1, 2]
    assert model.own[1].count == 3
    assert model.steps is steps  # Somebody else may have it too.
    assert type(model.pair) is type(pair)
    assert model.bound.keywords == {"input": None}
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norms = nn.Conv2d(3, 8, 3), [nn.BatchNorm2d(8)]

    def forward(self, x):
        return self.norms[0](self.conv(x))


def test_a_normalization_that_is_no_part_of_the_model_is_named():
    plan = plan_switch(nn.Sequential(Hidden(), nn.BatchNorm2d(8)), "sn")
    assert [change.names for change in plan.changes] == [("1",)]
    (left,) = plan.left
    assert left.names == ("0.norms",)
    assert "a ModuleList makes it one" in left.reason
    with pytest.warns(SwitchWarning, match="BatchNorm2d: kept past PyTorch's names"):
        switch(Hidden(), "sn")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_what_python_holds_of_a_scripted_module_is_no_reference():
    plan = plan_switch(nn.Sequential(torch.jit.script(nn.BatchNorm2d(8)), nn.BatchNorm2d(8)), "sn")
    assert [left.names for left in plan.left] == [("0",)]


class Functional(Block):
    def forward(self, x):
        bn = self.bn
        return F.batch_norm(self.conv(x), bn.running_mean, bn.running_var, bn.weight, bn.bias, self.training)


class Regularized(Functional):
    def forward(self, x):
        return super().forward(x) + sum(p.norm() for p in self.parameters())


@pytest.mark.parametrize("cls", [Functional, Regularized])
@pytest.mark.parametrize("spec", ["sn", "gn"])
def test_a_layer_that_lends_its_parameters_alone_stays(cls, spec):
    model = cls()
    plan = plan_switch(model, spec)
    assert plan.changes == []
    assert [left.names for left in plan.left] == [("bn",), ("",)]
    assert plan.left[0].reason.startswith("no forward pass calls it")
    plan.apply()(torch.randn(4, 3, 8, 8))


class Weighted(Block):
    def forward(self, x):
        return self.bn(self.conv(x)) * self.bn.running_var.view(1, -1, 1, 1) + self.bn.weight.sum()


def test_what_is_read_of_a_layer_must_be_there_afterwards():
    x = torch.randn(4, 3, 8, 8)
    for spec in ("gn", "in", "ibn"):  # The last has running statistics of some channels.
        (left,) = plan_switch(Weighted(), spec).left
        assert left.reason == f"a forward pass reads its running_var, and {spec} has no such"
    for spec in ("sn", "ssn", "bcn"):
        switch(Weighted(), spec)(x)


class Central(Block):
    """A central-difference convolution, which reads its weight twice."""

    def forward(self, x):
        return self.bn(self.conv(x) - F.conv2d(x, self.conv.weight.sum((2, 3), keepdim=True))[..., 1:-1, 1:-1])


def test_a_convolution_that_is_read_too_is_told():
    model = Central()
    plan = plan_switch(model, "sn+ws")
    assert plan.changes[0].reason.endswith("a forward pass reads its weight too, which is not standardized there")
    plan.apply()(torch.randn(4, 3, 8, 8))
