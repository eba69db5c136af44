"""Fusers of other libraries fold what is a Batch Normalization, exactly, and are refused for everything else.

The formulas of fusers that are not installed here are written out as functions.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import fuse_modules, get_default_qconfig_mapping
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.quantize_fx import prepare_fx
from torch.fx.experimental import optimization
from torch.nn.utils import prune
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_eval

from switchnorm import InputError
from switchnorm.layers import (
    BatchChannelNorm2d,
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceBatchNorm2d,
    SparseSwitchNorm2d,
    SwitchNorm1d,
    SwitchNorm2d,
    WSConv1d,
    WSConv2d,
)

#: Layers with running statistics that are no Batch Normalization, with 8 channels.
OTHERS = [
    SwitchNorm2d,
    SparseSwitchNorm2d,
    BatchChannelNorm2d,
    InstanceBatchNorm2d,
    partial(InstanceBatchNorm2d, instance_channels=0),
    partial(SwitchNorm2d, statistics=("batch",)),
    partial(SwitchNorm2d, affine=False),
    partial(BatchNorm2d, activation="relu"),
]
REFUSAL = "cannot be folded .*evaluate the network as it is; switchnorm.fuse"


def into_a_new_layer(conv: Any, bn: Any) -> nn.Module:
    """LeViT's form."""
    scale = bn.weight / (bn.running_var + bn.eps) ** 0.5
    fused = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size)
    fused.weight.data.copy_(conv.weight * scale[:, None, None, None])
    bias = 0 if conv.bias is None else conv.bias
    fused.bias.data.copy_(bn.bias + (bias - bn.running_mean) * scale)
    return fused


def in_place_by_a_diagonal(conv: Any, bn: Any) -> nn.Module:
    """Ultralytics' form."""
    diagonal = torch.diag(bn.weight.div(torch.sqrt(bn.eps + bn.running_var)))
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    fused_bias = diagonal @ bias + bn.bias - bn.weight.mul(bn.running_mean).div(torch.sqrt(bn.running_var + bn.eps))
    conv.weight.data = (diagonal @ conv.weight.view(conv.out_channels, -1)).view(conv.weight.shape)
    conv.bias = nn.Parameter(fused_bias)
    return conv


def by_branch(conv: Any, bn: Any) -> nn.Module:
    """RepVGG's form, with statistics in the shape of maps, as detectron2's frozen layers have them."""
    kernel, eps = conv.weight, bn.eps
    std = (bn.running_var.reshape(-1, 1, 1, 1) + eps).sqrt()
    fused = copy.deepcopy(conv)
    fused.weight = nn.Parameter(kernel * bn.weight.reshape(-1, 1, 1, 1) / std)
    bias = 0 if conv.bias is None else conv.bias
    fused.bias = nn.Parameter(bn.bias + (bias - bn.running_mean) * bn.weight / std.flatten())
    return fused


def in_double(conv: Any, bn: Any) -> nn.Module:
    """In another dtype, by a method."""
    scale = bn.running_var.double().add(bn.eps).pow(-0.5).float() * bn.weight
    fused = copy.deepcopy(conv)
    fused.weight = nn.Parameter(conv.weight * scale.reshape(-1, 1, 1, 1))
    bias = 0 if conv.bias is None else conv.bias
    fused.bias = nn.Parameter(bn.bias + (bias - bn.running_mean) * scale)
    return fused


def by_torch_weights(conv: Any, bn: Any) -> nn.Module:
    fused = copy.deepcopy(conv)
    given = conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    fused.weight, fused.bias = fuse_conv_bn_weights(*given)
    return fused


FOLDERS = [
    fuse_conv_bn_eval,
    by_torch_weights,
    into_a_new_layer,
    in_place_by_a_diagonal,
    by_branch,
    in_double,
]


def filled(layer: Any) -> Any:
    """In evaluation, with parameters and running statistics that are not trivial."""
    for name, t in [*layer.named_parameters(), *layer.named_buffers()]:
        if name.endswith("running_var"):
            nn.init.uniform_(t, 0.5, 2)
        elif t.is_floating_point() and name != "radius":
            nn.init.normal_(t)
    return layer.eval()


@pytest.mark.parametrize("fold", FOLDERS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [partial(BatchNorm2d, ghost=2), partial(BatchNorm2d, eps=1e-2, sync=True)])
def test_batch_norm_is_folded_exactly(fold: Callable[..., nn.Module], bias: bool, make: Any) -> None:
    conv, norm = filled(nn.Conv2d(3, 8, 3, bias=bias)), filled(make(8))
    x = torch.randn(2, 3, 5, 7)
    expected = norm(conv(x))
    torch.testing.assert_close(fold(conv, norm)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fold", FOLDERS)
@pytest.mark.parametrize("make", OTHERS)
def test_what_is_no_batch_norm_is_refused_and_nothing_has_changed(fold: Callable[..., Any], make: Any) -> None:
    conv, norm = filled(nn.Conv2d(3, 8, 3)), filled(make(8))
    before = conv.weight.clone()
    if norm.weight is None and fold not in (fuse_conv_bn_eval, by_torch_weights, in_double):
        norm.weight, norm.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
    with pytest.raises(InputError, match=REFUSAL) as raised:
        fold(conv, norm)
    assert "\n" not in str(raised.value)
    assert type(norm).__name__ in str(raised.value)
    torch.testing.assert_close(conv.weight, before, rtol=0, atol=0)


def test_linear_and_transposed_layers_are_refused_alike() -> None:
    with pytest.raises(InputError, match=REFUSAL):
        fuse_linear_bn_eval(nn.Linear(5, 8).eval(), SwitchNorm1d(8).eval())
    with pytest.raises(InputError, match=REFUSAL):
        fuse_conv_bn_eval(nn.ConvTranspose2d(5, 8, 3).eval(), SwitchNorm2d(8).eval(), transpose=True)
    linear, norm = filled(nn.Linear(5, 8)), filled(BatchNorm1d(8, ghost=2))
    x = torch.randn(3, 5)
    torch.testing.assert_close(fuse_linear_bn_eval(linear, norm)(x), norm(linear(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fold", FOLDERS)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNorm2d, SwitchNorm2d])
def test_nothing_is_folded_into_standardized_weights(fold: Callable[..., Any], norm: Any) -> None:
    conv = filled(WSConv2d(3, 8, 3))
    with pytest.raises(InputError, match=re.escape("evaluate the network as it is; switchnorm.fuse")):
        fold(conv, filled(norm(8)))


def merge_branch(conv: Any, other: Any) -> Tensor:
    return conv.weight + nn.functional.pad(other.weight, (1, 1, 1, 1))


class Deploys:
    """A method of a class, under the name that RepVGG made known."""

    def switch_to_deploy(self, conv: Any) -> Any:
        return conv.weight * 2


def test_branches_and_scales_are_not_folded_into_standardized_weights_in_training_either() -> None:
    conv = WSConv2d(3, 8, 3)
    with pytest.raises(InputError, match="merge_branch cannot fold"):
        merge_branch(conv, nn.Conv2d(3, 8, 1))
    with pytest.raises(InputError, match="switch_to_deploy cannot fold"):
        Deploys().switch_to_deploy(conv)


def load_and_report(conv: Any, bn: Any, weight: Tensor, var: Tensor) -> float:
    conv.weight.data.copy_(weight)
    bn.running_var.copy_(var)
    return float(bn.running_var.sqrt().sum() + bn.eps)


def unfold(conv: Any) -> torch.Size:
    return conv.weight.shape


def test_others_read_standardized_weights_as_any() -> None:
    conv, norm = WSConv2d(3, 8, 3), BatchNorm2d(8)
    load_and_report(conv, norm, torch.randn(8, 3, 3, 3), torch.rand(8))
    conv.eval()
    assert unfold(conv) == (8, 3, 3, 3)
    with pytest.raises(InputError, match=re.escape("layer.get_parameter('weight')")):
        load_and_report(conv, norm, torch.randn(8, 3, 3, 3), torch.rand(8))
    assert conv.get_parameter("weight") is conv.weight is dict(conv.named_parameters())["weight"]
    with pytest.raises(AttributeError, match="no attribute 'weigth'"):
        _ = conv.weigth


@pytest.mark.parametrize("make", OTHERS[:4])
def test_eps_is_a_number_for_all_else(make: Any) -> None:
    layer = filled(make(8, eps=1e-3))
    assert isinstance(layer.eps, float)
    assert layer.eps == 1e-3
    assert f"{layer.eps!r} {layer.eps:.0e}" == "0.001 1e-03"
    assert math.sqrt(1 + layer.eps) == math.sqrt(1.001)
    assert (
        type(float(layer.eps)) is type(copy.deepcopy(layer.eps)) is type(pickle.loads(pickle.dumps(layer.eps))) is float
    )
    var = torch.rand(8)
    torch.testing.assert_close(var + layer.eps, var + 1e-3)
    torch.testing.assert_close(torch.clamp(var, min=layer.eps), torch.clamp(var, min=1e-3))
    np.testing.assert_array_equal(var.numpy() + layer.eps, var.numpy() + 1e-3)
    assert (1 + layer.eps, layer.eps * 2) == (1.001, 0.002)
    torch.testing.assert_close(layer.running_var + float(layer.eps), layer.running_var + 1e-3)


@pytest.mark.parametrize("make", OTHERS[:4])
def test_eps_is_kept_as_before_and_may_be_set(make: Any) -> None:
    layer = filled(make(8))
    assert vars(layer)["eps"] == 1e-5
    assert type(vars(layer)["eps"]) is float
    x = torch.randn(2, 8, 3, 5)
    layer.eps = 10
    torch.testing.assert_close(layer(x), filled_like(make(8, eps=10.0), layer)(x))
    assert type(vars(pickle.loads(pickle.dumps(layer)))["eps"]) is float
    running = layer.running_var
    for var in (running, running.numpy(), running[1:], running.double().view(-1, 1), running.clone()):
        with pytest.raises(InputError, match=REFUSAL):
            _ = var + layer.eps


def filled_like(layer: Any, other: nn.Module) -> Any:
    layer.load_state_dict(other.state_dict())
    return layer.eval()


class Own(SwitchNorm2d):
    """A user's layer that computes with eps itself."""

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, (0, 2, 3), keepdim=True)
        return (x - mean) * (var + self.eps).rsqrt()


def test_a_layer_of_ones_own_may_be_transformed() -> None:
    layer, x = filled(Own(8)), torch.randn(3, 2, 8, 3, 5)
    torch.testing.assert_close(torch.vmap(layer)(x), torch.stack([layer(each) for each in x]))


@pytest.mark.parametrize("make", [Own, SwitchNorm2d, BatchChannelNorm2d, InstanceBatchNorm2d])
def test_compiling_sees_a_plain_number_that_may_change(make: Any) -> None:
    layer = filled(make(8))
    x = torch.randn(2, 8, 3, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for eps in (1e-5, 0.5):
        layer.eps = eps
        torch.testing.assert_close(compiled(x), layer(x))


class WithLeaves(fx.Tracer):
    """Takes every layer as one call."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return not isinstance(module, nn.Sequential)


def net(norm: Any, conv: Any = nn.Conv2d) -> nn.Sequential:
    return filled(nn.Sequential(conv(3, 8, 3), norm(8), nn.ReLU()))


@pytest.mark.parametrize(
    ("conv", "norm"), [(nn.Conv2d, BatchNorm2d), (nn.Conv2d, SwitchNorm2d), (WSConv2d, nn.BatchNorm2d)]
)
def test_tools_that_know_layers_by_their_class_leave_ours_as_they_are(conv: Any, norm: Any) -> None:
    model = net(norm, conv)
    x = torch.randn(2, 3, 6, 5)
    expected = model(x)
    with pytest.raises((AssertionError, NotImplementedError), match=f"{conv.__name__}.*{norm.__name__}"):
        fuse_modules(model, ["0", "1"])
    fused = optimization.fuse(fx.GraphModule(model, WithLeaves().trace(model)), no_trace=True)
    torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
    leaves = PrepareCustomConfig().set_non_traceable_module_classes([conv, norm])
    prepared = prepare_fx(model, get_default_qconfig_mapping(), (x,), leaves)
    torch.testing.assert_close(prepared(x), expected, rtol=1e-4, atol=1e-5)


def test_groups_are_refused_where_timm_folds_what_is_around_them() -> None:
    for layer in (GroupNorm(2, 8), SwitchNorm2d(8)):
        with pytest.raises(InputError, match=REFUSAL):
            layer.reparameterize()


def test_a_converter_may_not_lose_an_activation() -> None:
    convert = nn.SyncBatchNorm.convert_sync_batchnorm
    model = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNorm2d(8, activation="relu"))
    with pytest.raises(InputError, match=re.escape("call switchnorm.sync(model)")):
        convert(model)
    assert type(model[1]) is BatchNorm2d
    assert list(model[1].named_children()) == []
    plain = convert(nn.Sequential(BatchNorm2d(8, ghost=2)))
    assert type(plain[0]) is nn.SyncBatchNorm


@pytest.mark.parametrize("kind", [WSConv1d, WSConv2d])
@pytest.mark.parametrize(
    "parametrize", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_parametrized_weights_are_standardized(kind: Any, parametrize: Callable[..., Any]) -> None:
    conv = parametrize(kind(3, 8, 3))
    x = torch.randn(2, 3, *[7] * (len(conv.kernel_size)))
    for mode in (True, False):
        conv.train(mode)
        with torch.no_grad():
            given, y = conv.weight, conv(x)
            plain = copy.deepcopy(conv)
        rows = given.flatten(1)
        scaled = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-5)
        if parametrize is nn.utils.parametrizations.weight_norm or not mode:
            torch.testing.assert_close(
                plain._conv_forward(x, scaled.view_as(given), conv.bias), y, rtol=1e-3, atol=1e-4
            )


def test_pruning_and_memory_formats_see_the_weight() -> None:
    conv = WSConv2d(3, 8, 3).eval()
    x = torch.randn(2, 3, 6, 5)
    with torch.no_grad():
        before = conv(x)
        nn.utils.convert_conv2d_weight_memory_format(conv, torch.channels_last)
        assert conv.weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(conv(x), before)
        nn.utils.convert_conv2d_weight_memory_format(conv, torch.contiguous_format)
        prune.random_unstructured(conv, "weight", 0.5)
        pruned = WSConv2d(3, 8, 3).eval()
        pruned.load_state_dict({"weight": conv.weight_orig * conv.weight_mask, "bias": conv.bias})
        torch.testing.assert_close(conv(x), pruned(x))
        prune.remove(conv, "weight")
        torch.testing.assert_close(conv(x), pruned(x))
