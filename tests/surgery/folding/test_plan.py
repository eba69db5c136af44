"""The plan of a folding: its words, its counts, its errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import Norm, register
from switchnorm.layers.evaluated import batch_normalization
from switchnorm.surgery import fold, plan_fold, switch
from tests.surgery.folding.folded import assert_same, chosen, trained
from tests.surgery.nets import small_net


def test_the_plan_says_what_becomes_of_every_layer():
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()))
    plan = plan_fold(net)
    assert plan.counts == {"part of the layer before": 1, "as it was": 1}
    assert [(c.names, c.before, c.after) for c in plan.changes] == [(("1",), "BatchNorm2d(4)", "part of 0")]
    assert plan.left[0].names == ("3",)
    lines = str(plan).splitlines()
    assert lines[0] == "fold: 1 layer folded, 1 left as before"
    assert "1 x part of the layer before" in lines
    assert any(line.startswith("3 ") and "relu comes before it; relu comes after it" in line for line in lines)


def test_a_plan_can_be_carried_out_again():
    torch.manual_seed(0)
    plan, x = plan_fold(trained(small_net())), torch.randn(1, 3, 8, 8)
    first, second = plan.apply(), plan.apply()
    assert torch.equal(first(x), second(x))
    assert not {*map(id, first.parameters())} & {*map(id, second.parameters())}


def test_the_model_stays_in_its_mode_and_shares_nothing():
    net = trained(small_net()).train()
    folded = fold(net)
    assert net.training
    assert not folded.training
    storages = {p.data_ptr() for p in net.parameters()}
    assert not storages & {p.data_ptr() for p in folded.parameters()}


def test_a_single_layer_is_folded():
    _, folded = assert_same(trained(switchnorm.SwitchNorm2d(4, statistics=("batch",))), torch.randn(2, 4, 3, 3))
    assert type(folded.norm) is nn.BatchNorm2d


@pytest.mark.parametrize("size", [0, -3, True, 2.5, "224", (1,), (1, 2, 3), (0, 4), None])
def test_sizes(size):
    if size is None:
        assert plan_fold(small_net(), size).size is None
        assert plan_fold(small_net(), 8).size == (8, 8)
        assert plan_fold(small_net(), [8, 9]).size == (8, 9)
    else:
        with pytest.raises(InputError, match="no size of pictures"):
            plan_fold(small_net(), size)


def test_unknown_sizes_of_maps_are_said():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_net()

        def forward(self, x):
            return self.net(x["image"])

    plan = plan_fold(Odd(), 8)
    assert "the sizes of maps are not known" in plan.remarks[0]
    assert plan.remarks[0] in str(plan)


def test_errors():
    with pytest.raises(InputError, match="fold"):
        fold("resnet18")
    with pytest.raises(InputError, match="TorchScript"):
        fold(torch.jit.script(small_net()))
    with pytest.raises(InputError, match="is on the meta device and has no values"):
        fold(small_net().to("meta"))

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_net()

        def __deepcopy__(self, memo):
            made = Own()
            made.load_state_dict(copy.deepcopy(self.state_dict()))
            return made

    with pytest.raises(InputError, match="copies itself in a way of its own"):
        fold(Own())

    class Never(nn.Sequential):
        def __deepcopy__(self, memo):
            raise RuntimeError("never")

    with pytest.raises(InputError, match="Never cannot be copied: RuntimeError: never"):
        fold(Never(small_net()))


def test_a_lazy_layer_is_left():
    plan = plan_fold(nn.Sequential(nn.Conv2d(3, 4, 1), nn.LazyBatchNorm2d()))
    assert plan.left[0].reason == "lazy and not initialised; run a batch first"


def test_an_average_that_follows_others_is_not_looked_for_any_more():
    net = trained(switch(small_net(), "ssn"))
    folded = fold(net)
    for layer in net.modules():
        if hasattr(layer, "set_radius"):
            layer.set_radius(0.5)
    assert not any(hasattr(layer, "radius") for layer in folded.modules())


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("evaluates", [batch_normalization, None])
def test_a_registered_normalizer_tells_what_it_computes(evaluates):
    class Scaled(nn.BatchNorm2d):
        pass

    register(Norm("scaled", {2: Scaled}, batch_statistics=True, evaluates=evaluates))
    plan, _ = assert_same(trained(nn.Sequential(nn.Conv2d(3, 4, 1), Scaled(4))), torch.randn(2, 3, 4, 4))
    assert plan.counts == {"part of the layer before": 1}


def test_a_copy_for_one_size_refuses_others():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    net = chosen(trained(switch(body, "ssn")), lambda _: ("instance", "instance"))
    folded, x = fold(net, (8, 12)), torch.randn(2, 3, 8, 12)
    program = torch.export.export(folded, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for size in ((8, 8), (16, 24), (1, 1)):
        with pytest.raises(InputError, match=r"folded for pictures of 8 x 12, of which maps of 8 x 12 come"):
            folded(torch.randn(2, 3, *size))
    assert not [node for node in program.graph.nodes if "sym_size" in str(node.target) or "assert" in str(node.target)]
    with torch.no_grad():
        assert torch.allclose(program.module()(x[:1]), net(x[:1]), 1e-4, 1e-5)
        assert torch.allclose(torch.jit.trace(folded, x)(x[:1]), net(x[:1]), 1e-4, 1e-5)


def test_what_folding_saves():
    net = chosen(trained(switch(small_net(), "ssn")), lambda i: (("batch", "layer")[i],) * 2)
    for size, words in ((None, "5 passes over maps become 3 (-40%)"), (8, "M values read and written of a picture of")):
        plan = plan_fold(net, size)
        assert plan.saving.startswith("1 of 2 normalizations cost nothing (50%); ")
        assert words in plan.saving
        assert plan.saving in str(plan)
    assert "6 passes over maps become 6 (-0%)" in plan_fold(switch(small_net(), "ibn")).saving
    assert plan_fold(nn.Conv2d(3, 3, 1)).saving.startswith("0 of 0 normalizations cost nothing; 0 passes")


def test_what_is_left_of_a_layer_is_one_node():
    net = trained(switch(small_net(), "sn"))
    folded, x = fold(net, 8), torch.randn(2, 3, 8, 8)
    assert torch.equal(torch.fx.symbolic_trace(folded)(x), folded(x))
    assert len(plan_fold(folded).changes) == len(plan_fold(folded).left) == 0
    with pytest.raises(InputError, match=r"torch.jit.script cannot compile Tables"):
        torch.jit.script(folded)
