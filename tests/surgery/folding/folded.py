"""Networks as training leaves them, and what a folded copy is compared with."""

from __future__ import annotations

import copy

import torch
from torch import nn

from switchnorm.layers import SparseSwitchNorm, kind_of
from switchnorm.ops import kernel
from switchnorm.surgery import plan_fold


@torch.no_grad()
def trained(model, seed=0):
    """The model with running statistics, scales and shifts as if it had been trained, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if kind_of(module) is None and not isinstance(module, nn.modules.conv._ConvNd):
            continue
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            low, high = {"running_mean": (-1, 1), "running_var": (0.5, 3), "bias": (-1, 1)}.get(name, (0.5, 1.5))
            if tensor is not None and name in ("running_mean", "running_var", "weight", "bias") and tensor.dim() == 1:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return model.eval()


def chosen(model, rule):
    """The model whose sparse layers have chosen: those of number i the statistics `rule(i)` of mean and variance."""
    layers = [module for module in model.modules() if isinstance(module, SparseSwitchNorm)]
    for number, layer in enumerate(layers):
        layer.set_radius(1.0)
        layer.set_importance(*([float(name == one) for name in layer.statistics] for one in rule(number)))
        layer.harden()
    return model


@torch.no_grad()
def assert_same(model, *inputs, size=None, output=lambda y: y):
    """Fold the model; the copy computes what it computes, as exactly. Returns the plan and the copy."""
    before = copy.deepcopy(model.state_dict())
    plan = plan_fold(model, size)
    folded = plan.apply()
    assert not any(module.training for module in folded.modules())
    exact = copy.deepcopy(model).double()
    for x in inputs:
        y, found, true = (output(net(given)) for net, given in ((model, x), (folded, x), (exact, x.double())))
        top = true.abs().max()
        assert found.dtype == y.dtype
        # A copy is made of plain operations, and held against these too: the compiled library is more exact.
        with kernel("reference"):
            plain = output(model(x))
        eager = max((each - true).abs().max() for each in (y, plain))
        # Near to eager mode, or as near to the exact numbers: how far that is depends on the processor.
        assert (found - y).abs().max() <= 1e-5 * top or (found - true).abs().max() <= eager
        # Of networks as small as these an error of eager mode may happen to be none.
        assert (found - true).abs().max() <= 3 * eager + 2e-7 * top
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    return plan, folded
