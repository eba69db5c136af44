"""timm's, torch's and Lightning's own conversions of networks whose layers are this library's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from pytorch_lightning.plugins import TorchSyncBatchNorm
from timm.layers import (
    BatchNormAct2d,
    GroupNormAct,
    convert_splitbn_model,
    convert_sync_batchnorm,
    freeze_batch_norm_2d,
    unfreeze_batch_norm_2d,
)
from timm.layers.norm_act import FrozenBatchNormAct2d, SyncBatchNormAct
from timm.utils.model import freeze, reparameterize_model, unfreeze
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from switchnorm import InputError, ghost, plan_switch, switch, sync
from switchnorm.layers import BatchNorm2d


def synchronised(channels: int, **options: Any) -> nn.Module:
    norm = SyncBatchNormAct(channels)
    norm.drop, norm.act = nn.Identity(), options["act_layer"](inplace=options["inplace"])
    return norm


OLD = {
    "batch": BatchNormAct2d,
    "group": lambda channels, **options: GroupNormAct(channels, num_groups=4, **options),
    "frozen": FrozenBatchNormAct2d,
    "sync": synchronised,
}


def network(old: str, inplace: bool) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        OLD[old](8, act_layer=nn.SiLU, inplace=inplace),
        nn.Conv2d(8, 8, 3),
        OLD[old](8, act_layer=nn.Hardtanh, inplace=inplace),
    )
    for name, t in [*net.named_parameters(), *net.named_buffers()]:
        if t.is_floating_point():
            nn.init.uniform_(t, 0.5, 2) if name.endswith("var") else nn.init.normal_(t, std=0.5)
    return net


CONVERT: dict[str, tuple[Callable[[nn.Module], nn.Module], type[nn.Module]]] = {
    "sync": (convert_sync_batchnorm, nn.SyncBatchNorm),
    "freeze": (freeze_batch_norm_2d, FrozenBatchNormAct2d),
    "unfreeze": (lambda net: unfreeze_batch_norm_2d(freeze_batch_norm_2d(net)), BatchNormAct2d),
    "split": (convert_splitbn_model, nn.BatchNorm2d),
}


@pytest.mark.parametrize("convert", CONVERT)
@pytest.mark.parametrize("spec", ["bn", "sn", "ssn", "gn"])
@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("inplace", [True, False])
def test_timms_converters_keep_the_function(convert: str, spec: str, old: str, inplace: bool) -> None:
    net = switch(network(old, inplace), spec).eval()
    keys = list(net.state_dict())
    x = torch.randn(2, 3, 8, 7)
    expected = net(x)
    change, kind = CONVERT[convert]
    for changed in (change(copy.deepcopy(net)), change(pickle.loads(pickle.dumps(net)))):
        # What is converted is of the right kind, whatever is no Batch Norm is as it was.
        assert isinstance(changed[1], kind) is isinstance(changed[3], kind) is (spec == "bn")
        torch.testing.assert_close(changed.eval()(x), expected, rtol=1e-4, atol=1e-5)
        if convert in ("sync", "unfreeze"):
            assert list(changed.state_dict()) == keys


@pytest.mark.parametrize(
    "make",
    [lambda net: ghost(net, 2), sync, lambda net: switch(net, "bn", momentum=0.3), lambda net: switch(net, "sn")],
)
def test_layers_in_the_place_of_timms_are_like_timms(make: Callable[[nn.Module], nn.Module]) -> None:
    old = network("batch", True).eval()
    acts = [layer.act for layer in old if hasattr(layer, "act")]
    x = torch.randn(2, 3, 8, 7)
    expected = old(x)
    net = switch(make(old), "bn")
    assert [isinstance(net[k], BatchNorm2d) and isinstance(net[k], BatchNormAct2d) for k in (1, 3)] == [True, True]
    assert [net[1].act, net[3].act] == acts
    assert type(net[1]).__name__ == "BatchNorm2d"
    torch.testing.assert_close(net(x), expected)
    assert plan_switch(net, "bn").changes == []
    assert type(copy.deepcopy(net)[1]) is type(pickle.loads(pickle.dumps(net))[1]) is type(net[1])
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), expected)
    # As when it starts blocks as identities.
    nn.init.zeros_(net[3].weight)
    torch.testing.assert_close(net(x), net[3].act(net[3].bias[:, None, None].expand(2, 8, 4, 3).clone()))


def test_batches_in_training_are_those_of_the_layer_and_then_the_activation() -> None:
    net = ghost(network("batch", True), 2)
    plain = copy.deepcopy(net)
    x = torch.randn(4, 3, 8, 7, requires_grad=True)

    def expected(x: Tensor) -> Tensor:
        for conv, norm in ((plain[0], plain[1]), (plain[2], plain[3])):
            y = conv(x)
            parts = [nn.functional.batch_norm(p, None, None, norm.weight, norm.bias, True) for p in y.split(2)]
            x = norm.act(norm.drop(torch.cat(parts)))
        return x

    torch.testing.assert_close(net(x), expected(x))
    cotangent = torch.randn(4, 8, 4, 3)
    found = torch.autograd.grad(net(x), x, cotangent)
    torch.testing.assert_close(found, torch.autograd.grad(expected(x), x, cotangent), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "convert", [nn.SyncBatchNorm.convert_sync_batchnorm, TorchSyncBatchNorm().apply], ids=["torch", "lightning"]
)
def test_torchs_converter_is_refused_where_it_would_lose_the_activation(convert: Callable[..., nn.Module]) -> None:
    net = ghost(network("batch", True), 2)
    with pytest.raises(InputError, match=r"loses in making it SyncBatchNorm; call switchnorm.sync\(model\)"):
        convert(net)
    without = nn.Sequential(ghost(BatchNormAct2d(8, apply_act=False), 2)).eval()
    x = torch.randn(2, 8, 3, 3)
    expected = without(x)
    changed = convert(without)
    assert type(changed[0]) is nn.SyncBatchNorm
    torch.testing.assert_close(changed(x), expected)
    switched = switch(network("batch", True), "sn")
    assert convert(switched)[1] is switched[1]


def test_a_batch_norm_is_folded_where_no_activation_is_left_behind() -> None:
    net = ghost(network("batch", True), 2).eval()
    with pytest.raises(InputError, match="evaluate the network as it is"):
        fuse_conv_bn_eval(net[0], net[1])
    net[1].act = nn.Identity()
    x = torch.randn(2, 3, 8, 7)
    torch.testing.assert_close(fuse_conv_bn_eval(net[0], net[1])(x), net[:2](x), rtol=1e-4, atol=1e-5)


def test_a_whole_network_is_frozen_and_thawed() -> None:
    net = ghost(timm.create_model("tf_efficientnet_lite0", num_classes=3), 2)
    for name, t in net.named_buffers():
        if t.is_floating_point():
            nn.init.uniform_(t, 0.8, 1.2) if name.endswith("var") else nn.init.normal_(t, std=0.1)
    x = torch.randn(2, 3, 32, 32)
    expected = net.eval()(x)
    keys = set(net.state_dict())
    for change in (freeze, unfreeze):
        change(net)
        torch.testing.assert_close(net.eval()(x), expected, rtol=1e-3, atol=1e-5)
    assert set(net.state_dict()) == keys


@pytest.mark.parametrize("name", ["repvgg_a0", "levit_128s", "efficientvim_m1"])
@pytest.mark.parametrize("spec", ["bn", "sn", "bn+ws", "gn", "ssn+ws"])
def test_timms_reparameterization_is_exact_or_refused(name: str, spec: str) -> None:
    net = switch(timm.create_model(name, num_classes=3), spec).eval()
    x = torch.randn(1, 3, 224, 224)
    if spec == "bn":
        with torch.no_grad():
            torch.testing.assert_close(reparameterize_model(net)(x), net(x), rtol=1e-3, atol=1e-4)
        return
    # A group normalization has no running statistics that a folder could ask for.
    with pytest.raises((InputError, AttributeError), match=r"switchnorm\.fuse|'GroupNorm' object has no attribute"):
        reparameterize_model(net)
