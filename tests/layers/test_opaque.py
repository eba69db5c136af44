"""A layer is one call to torch.fx, and TorchScript says what to use in its place."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_fx
from torchvision.models.feature_extraction import create_feature_extractor

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import SwitchNorm2d, WSConv2d
from tests.layers.modules import ModuleInfo, module_db

EVERY = pytest.mark.parametrize("info", module_db, ids=lambda info: info.name)


class Net(nn.Module):
    def __init__(self, info: ModuleInfo, training: bool) -> None:
        super().__init__()
        self.first = info.module(training=training)
        self.train(training)

    # Without annotations, which here are words: torch 2.8 to 2.11 pickle no traced network that has these.
    def forward(self, x):
        return self.first(x).sin()


class WithResidual(Net):
    def forward(self, x):
        return self.first(x.cos(), activation="relu", residual=x).sin()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@EVERY
def test_a_layer_is_a_node_of_the_graph(info: ModuleInfo, training: bool) -> None:
    fuses = info.norm is not None and info.norm.fuses
    for kind in (Net, WithResidual)[: 1 + fuses]:
        net = kind(info, training)
        (x, *_) = info.inputs()
        plain, traced = copy.deepcopy(net), fx.symbolic_trace(net)
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["first"]
        for other in (pickle.loads(pickle.dumps(traced)), copy.deepcopy(traced), traced):
            once = copy.deepcopy(plain)
            torch.testing.assert_close(other(x), once(x), rtol=0, atol=0)
            torch.testing.assert_close(other.state_dict(), once.state_dict(), rtol=0, atol=0)


def test_hooks_run_once_and_subclasses_keep_what_they_add() -> None:
    class Doubled(SwitchNorm2d):
        def forward(self, x: Tensor, *args: Any) -> Tensor:
            return super().forward(x, *args) * 2

    net = nn.Sequential(Doubled(3), nn.ReLU())
    net[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    net[0].register_forward_hook(lambda module, args, y: y.sigmoid())
    x = torch.randn(2, 3, 4, 5)
    plain = copy.deepcopy(net)
    torch.testing.assert_close(fx.symbolic_trace(net)(x), plain(x))


@pytest.mark.parametrize("change", [lambda net: net, lambda net: switchnorm.ghost(net, 2), switchnorm.fuse])
@pytest.mark.parametrize("spec", ["sn", "bn", "gn+ws"])
def test_networks_that_were_switched(spec: str, change: Any) -> None:
    net = change(switchnorm.switch(torchvision.models.resnet18(num_classes=3), spec)).eval()
    x = torch.randn(2, 3, 32, 32)
    y = net(x)
    torch.testing.assert_close(fx.symbolic_trace(net)(x), y)
    features = create_feature_extractor(net, ["layer2.0.bn2", "fc"])(x)
    assert list(features) == ["layer2.0.bn2", "fc"]
    torch.testing.assert_close(features["fc"], y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_fx(copy.deepcopy(net), get_default_qconfig_mapping("x86"), (x,))
    torch.testing.assert_close(prepared(x), y)


@EVERY
def test_a_layer_alone_is_no_graph(info: ModuleInfo) -> None:
    with pytest.raises(InputError, match="trace a module that holds it"):
        fx.symbolic_trace(info.module())


@pytest.mark.filterwarnings("ignore:`torch.jit")
@EVERY
def test_scripting_names_what_works(info: ModuleInfo) -> None:
    for model in (info.module(), nn.Sequential(nn.Identity(), info.module())):
        with pytest.raises(InputError, match=r"torch.jit.script cannot compile .* use torch.jit.trace or") as error:
            torch.jit.script(model)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
@EVERY
def test_tracing_and_exporting_work(info: ModuleInfo) -> None:
    module, inputs = info.module(training=False), info.inputs()
    y = module(*inputs)
    torch.testing.assert_close(torch.jit.trace(module, inputs)(*inputs), y)
    torch.testing.assert_close(torch.export.export(module, inputs).module()(*inputs), y)


def test_compiles_as_one_graph() -> None:
    torch.compiler.reset()
    net = nn.Sequential(WSConv2d(3, 4, 3), SwitchNorm2d(4))
    x = torch.randn(2, 3, 6, 5)
    plain = copy.deepcopy(net)
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(x), plain(x))
