"""Calibration of a switched network towards the network before."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from switchnorm.errors import InputError
from switchnorm.surgery import calibrate, fuse, switch
from tests.surgery.nets import small_net


def trained(norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    """A network whose layers are nothing like fresh ones, in evaluation mode."""
    torch.manual_seed(0)
    net = small_net(norm)
    for _ in range(5):
        net(torch.randn(8, 3, 8, 8) * 2 + 1)
    return net.eval()


def inputs(count: int = 3) -> list[Tensor]:
    return [torch.randn(7, 3, 8, 8) * 2 + 1 for _ in range(count)]


def distance(net: nn.Module, other: nn.Module) -> float:
    torch.manual_seed(5)
    x = torch.randn(16, 3, 8, 8) * 2 + 1
    with torch.no_grad():
        return float((net.eval()(x) - other.eval()(x)).square().mean())


@pytest.mark.parametrize("spec", ["gn:4", "ln", "in", "gn:4+ws", "bn+ws", "sn+ws", "ssn", "ibn"])
def test_a_switched_network_comes_nearer_to_what_it_was(spec):
    before = trained()
    net = switch(copy.deepcopy(before), spec)
    other = copy.deepcopy(net)
    calibrate(other, inputs())
    calibrate(net, inputs(), like=before)
    assert distance(net, before) < 0.7 * distance(other, before)


def test_each_channel_has_the_mean_and_deviation_it_had_given_the_layers_before():
    before = trained()
    net = switch(copy.deepcopy(before), "gn:4+ws", start="equal")
    x = inputs(1)
    reference = copy.deepcopy(net)
    calibrate(net, x, like=before)
    y = target = x[0]
    with torch.no_grad():
        for ours, theirs in zip(reference, before, strict=True):
            target = theirs(target)
            if isinstance(ours, nn.GroupNorm):
                plain = nn.functional.group_norm(y, ours.num_groups, eps=ours.eps)
                for c in range(plain.shape[1]):
                    values, goal = plain[:, c].flatten().double().numpy(), target[:, c].flatten().double().numpy()
                    sign = -1 if np.corrcoef(values, goal)[0, 1] < 0 else 1
                    ours.weight[c] = sign * goal.std() / values.std()
                    ours.bias[c] = goal.mean() - sign * goal.std() / values.std() * values.mean()
            y = ours(y)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_later_batches_add_to_what_earlier_ones_showed():
    """The line of several batches is that of all their values, whatever their sizes; an empty batch says nothing."""
    before = nn.Sequential(trained()[1])
    batches = [torch.randn(n, 8, 4, 3) * (n + 1) for n in (5, 1, 3)]
    nets = [switch(copy.deepcopy(before), "in") for _ in range(2)]
    calibrate(nets[0], [batches[0], batches[0][:0], *batches[1:]], like=before)
    calibrate(nets[1], [torch.cat(batches)], like=before)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_running_statistics_are_those_of_what_the_layers_meet():
    before = trained()
    net = switch(copy.deepcopy(before), "bn+ws")
    x = inputs(1)
    calibrate(net, x, like=before)
    met = net[3](net[2](net[1](net[0](x[0]))))
    torch.testing.assert_close(net[4].running_mean, met.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(net[4].running_var, met.var((0, 2, 3)), rtol=1e-3, atol=1e-3)
    assert int(net[4].num_batches_tracked) == 1


def test_activations_and_sums_inside_of_layers_are_left_out():
    torch.manual_seed(0)
    before = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    for _ in range(4):
        before(torch.randn(8, 3, 8, 8) * 2 + 1)
    nn.init.normal_(before[1].weight)
    before.eval()
    nets = [switch(copy.deepcopy(before), "ln") for _ in range(2)]
    fuse(nets[1])
    for net in nets:
        far = distance(net, before)
        torch.manual_seed(1)
        calibrate(net, inputs(), like=before)
        assert distance(net, before) < 0.8 * far
        assert isinstance(net[1].act, nn.ReLU)
    torch.testing.assert_close(nets[0][3].weight, nets[1][3].weight)


def test_both_networks_are_as_before_but_for_what_is_written():
    before = trained()
    before.train()
    net = switch(copy.deepcopy(before), "gn:4")
    calls = []
    net[1].register_forward_hook(lambda layer, args, y: calls.append(y) or 2 * y)
    state = copy.deepcopy(before.state_dict())
    calibrate(net, [{"x": x} for x in inputs(2)], like=before, forward=lambda model, batch: model(batch["x"]))
    assert len(calls) == 2
    torch.testing.assert_close(calls[1] * 0, torch.zeros_like(calls[1]))
    assert all(torch.equal(value, state[key]) for key, value in before.state_dict().items())
    assert all(module.training for model in (net, before) for module in model.modules())
    assert [len(layer._forward_hooks) for layer in (net[1], net[4], before[1])] == [1, 0, 0]


def test_what_does_not_pair_is_refused_before_anything_changes():
    before = trained()
    net = switch(copy.deepcopy(before), "gn:4")

    def refused(model: nn.Module, like: nn.Module, words: str) -> None:
        state = copy.deepcopy(model.state_dict())
        with pytest.raises(InputError, match=words) as error:
            calibrate(model, inputs(1), like=like)
        assert "\n" not in str(error.value)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert not any(layer._forward_hooks for each in (model, like) for layer in each.modules())

    refused(net, nn.Sequential(before), "layer '1' of model has no normalization of that name in like")
    refused(before[:2], before, "layer '4' of like has no normalization of that name in model")
    refused(net, net, "shares scales and shifts with model")
    other = copy.deepcopy(net)
    other[4] = nn.GroupNorm(2, 12, affine=False)
    refused(other, before, "layer '4' of model has no scale and shift")
    tied = copy.deepcopy(net)
    tied[4].bias = tied[4].weight
    tied[1].weight = tied[4].weight
    refused(tied, before, "layers '1' and '4' of model share")
    refused(switch(copy.deepcopy(before), "bcn"), before, "does not end with scale and shift")
    twice = nn.Sequential(*copy.deepcopy(net)[:2], net[1])
    refused(nn.Sequential(*twice[:2], nn.Identity()), nn.Sequential(*before[:2], before[1]), "more often in like")


def test_layers_without_a_difference_keep_what_they_compute():
    before = nn.Sequential(nn.Conv2d(3, 8, 3), FrozenBatchNorm2d(8), nn.ReLU())
    before[1].weight.uniform_(0.5, 2)
    before[1].weight[3] = 0
    net = copy.deepcopy(before)
    calibrate(net, inputs(), like=before)
    assert distance(net, before) < 1e-10
