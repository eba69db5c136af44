"""Which convolutions get standardized weights where a graph is missing, and what becomes of subclasses."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from switchnorm import layers
from switchnorm.ops import standardize_weight
from switchnorm.surgery import plan_switch, switch


def standardized(plan):
    return [change.names[0] for change in plan.changes if change.after.startswith("WSConv")]


def reasons(plan):
    return {left.names[0]: left.reason for left in plan.left}


class Untraceable(nn.Module):
    """Looks at values before it computes."""

    def __init__(self, *parts) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        for part in self.parts:
            x = part(x)
        return x


def block(*between):
    return nn.Sequential(nn.Conv2d(4, 4, 3), *between, nn.BatchNorm2d(4))


def test_what_stands_between_is_never_guessed():
    plan = plan_switch(Untraceable(nn.Conv2d(4, 4, 3), nn.GELU(), nn.BatchNorm2d(4)), "gn+ws")
    assert standardized(plan) == []
    assert reasons(plan)["parts.0"].startswith("what follows is not known (tracing failed: TraceError")


def test_an_untraceable_part_does_not_lose_the_rest():
    net = nn.Sequential(
        block(),
        Untraceable(block(nn.ReLU()), block(nn.GELU()), nn.Conv2d(4, 4, 1)),
        block(nn.MaxPool2d(2)),
        block(nn.SiLU()),
    )
    plan = plan_switch(net, "gn+ws")
    assert standardized(plan) == ["0.0", "1.parts.0.0", "2.0"]
    assert plan.wiring.startswith("tracing in parts")
    assert reasons(plan)["1.parts.2"].startswith("what follows is not known")
    assert reasons(plan)["3.0"] == "does not feed a normalization"


def test_a_module_whose_name_promises_too_much_is_not_believed():
    class DropGELU(nn.Module):
        def forward(self, x):
            return nn.functional.gelu(x) if x.sum() > 0 else x

    assert standardized(plan_switch(block(DropGELU()), "gn+ws")) == []


def test_operations_with_a_gradient_of_their_own_are_unknown():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Own(nn.Module):
        def forward(self, x):
            return Cube.apply(x)

    plan = plan_switch(block(Own()), "gn+ws")
    assert standardized(plan) == []
    assert plan.wiring == "tracing"


class Conv3x3(nn.Conv2d):
    """A subclass with a constructor, a method and a state of its own."""

    def __init__(self, inputs, outputs) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.note = "mine"

    def flops(self):
        return self.weight.numel()


@pytest.mark.parametrize("clone", [lambda net: net, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_subclasses_keep_their_methods(clone):
    net = nn.Sequential(Conv3x3(3, 4), nn.BatchNorm2d(4))
    plan = plan_switch(net, "gn+ws")
    assert plan.changes[0].reason == "feeds 1; keeps the methods of Conv3x3"
    conv = clone(plan.apply())[0]
    assert isinstance(conv, Conv3x3)
    assert isinstance(conv, layers.WSConv2d)
    assert (conv.flops(), conv.note) == (108, "mine")
    x = torch.randn(2, 3, 5, 5)
    expected = nn.functional.conv2d(x, standardize_weight(conv.weight), conv.bias, padding=1)
    torch.testing.assert_close(conv(x), expected)
    again = plan_switch(nn.Sequential(conv, nn.BatchNorm2d(4)), "bn+ws")
    assert reasons(again) == {"0": "already standardized"}


def test_subclasses_that_are_copied_in_their_own_way_are_left():
    class Copied(nn.Conv2d):
        def __deepcopy__(self, memo):
            return self

    class Sealed(nn.Conv2d):
        def __init_subclass__(cls) -> None:
            raise TypeError("final")

    for cls in (Copied, Sealed):
        plan = plan_switch(nn.Sequential(cls(3, 4, 1), nn.BatchNorm2d(4)), "gn+ws")
        assert reasons(plan) == {"0": f"{cls.__name__} cannot be given another class and keep its methods"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("hooked", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_that_a_hook_computes_are_left(hooked):
    plan = plan_switch(nn.Sequential(hooked(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)), "gn+ws")
    assert reasons(plan)["0"].endswith("is a hook: it normalizes weights, not what flows through the network")


def test_pruned_weights_are_left():
    conv = nn.Conv2d(3, 4, 3)
    prune.l1_unstructured(conv, "weight", 0.5)
    plan = plan_switch(nn.Sequential(conv, nn.BatchNorm2d(4)), "gn+ws")
    assert reasons(plan)["0"] == "its weight is computed by a hook, as of weight_norm, spectral_norm or pruning"


def test_constant_weights_are_left_and_constant_outputs_are_told():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    nn.init.zeros_(net[0].weight)
    with torch.no_grad():
        net[2].weight[1] = 0.5
    plan = plan_switch(net, "gn+ws")
    assert reasons(plan)["0"].startswith("its weights are constant, and would be 0 when standardized")
    (change,) = (change for change in plan.changes if change.names == ("2",))
    assert change.reason == "feeds 3; 1 of 4 outputs have constant weights, which become 0"
    with torch.device("meta"):
        assert standardized(plan_switch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "gn+ws")) == ["0"]


def test_switching_back_keeps_the_function_of_a_convolution_that_is_left():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.BatchNorm2d(4))
    x = torch.randn(2, 3, 5, 5)
    expected = net[0](x)
    torch.testing.assert_close(switch(net, "gn+ws")[0](x), expected)
