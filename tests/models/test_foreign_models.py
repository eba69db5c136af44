import sys

import pytest
import timm
import torch
import torchvision
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm2d, GroupNorm, SparseSwitchNorm2d, SwitchNorm2d, WSConv2d
from switchnorm.models import foreign, task_of

TORCHVISION = torchvision.models.list_models(module=torchvision.models)
SEGMENTATION = torchvision.models.list_models(module=torchvision.models.segmentation)


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(module) is kind for module in model.modules())


def test_every_classification_network_of_torchvision_is_known():
    assert len(TORCHVISION) >= 80
    assert set(TORCHVISION) <= set(switchnorm.list_models())
    for name in TORCHVISION:
        assert foreign.TORCHVISION.builder(name).__module__.startswith("torchvision.models."), name


def test_every_segmentation_network_of_torchvision_is_known_as_one():
    assert set(SEGMENTATION) <= set(switchnorm.list_models())
    tasks = {name: task_of(name) for name in (*TORCHVISION, *SEGMENTATION)}
    assert {name for name, task in tasks.items() if task == "segmentation"} == set(SEGMENTATION)


@pytest.mark.parametrize(
    ("name", "norm", "kind", "number"),
    [
        ("fcn_resnet50", "sn", SwitchNorm2d, 54),
        ("deeplabv3_mobilenet_v3_large", "gn+ws", GroupNorm, 53),
        ("lraspp_mobilenet_v3_large", "ssn", SparseSwitchNorm2d, 47),
    ],
)
def test_the_normalization_of_segmentation_networks_is_switched(name, norm, kind, number):
    model = switchnorm.create_model(name, norm=norm, num_classes=5)
    assert (count(model, kind), count(model, nn.BatchNorm2d)) == (number, 0)
    logits = model(torch.randn(2, 3, 40, 48))
    assert {key: tuple(value.shape) for key, value in logits.items()} == {"out": (2, 5, 40, 48)}
    logits["out"].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "lraspp_mobilenet_v3_large"])
def test_without_a_norm_segmentation_networks_are_as_their_authors_built_them(name):
    torch.manual_seed(3)
    expected = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    torch.manual_seed(3)
    found = switchnorm.create_model(name)
    assert repr(found) == repr(expected)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


def test_the_auxiliary_classifier_is_at_work_in_training_alone():
    torch.manual_seed(3)
    expected = torchvision.models.get_model("deeplabv3_mobilenet_v3_large", weights_backbone=None, aux_loss=True)
    torch.manual_seed(3)
    found = switchnorm.create_model("deeplabv3_mobilenet_v3_large", aux_loss=True)
    assert list(found.state_dict()) == list(expected.state_dict())
    x = torch.randn(2, 3, 40, 48)
    calls = []
    found.aux_classifier.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        ours, theirs = found.eval()(x), expected.eval()(x)
        assert list(ours) == ["out"]
        assert calls == []
        assert torch.equal(ours["out"], theirs["out"])
        found.train()
        for module in (found.backbone, found.classifier, found.aux_classifier):
            module.eval()  # Dropout would differ.
        ours = found(x)
    assert list(ours) == list(theirs) == ["out", "aux"]
    assert torch.equal(ours["aux"], theirs["aux"])


def test_timm_is_listed_where_it_is_asked_for():
    assert switchnorm.list_models("timm:*") == [f"timm:{name}" for name in timm.list_models()]
    assert switchnorm.list_models("timm:resnet10t") == ["timm:resnet10t"]
    assert switchnorm.list_models("timm:no such network") == []
    assert not [name for name in switchnorm.list_models("*resnet*") if name.startswith("timm:")]


@pytest.mark.parametrize(
    ("name", "norm", "kind", "number"),
    [
        ("resnet18", "sn", SwitchNorm2d, 20),
        ("mobilenet_v3_small", "ssn", SparseSwitchNorm2d, 34),
        ("densenet121", "bn", BatchNorm2d, 121),
        ("regnet_y_400mf", "gn", GroupNorm, 53),
        ("shufflenet_v2_x0_5", "sn+ws", SwitchNorm2d, 56),
        ("mnasnet0_5", "gn:8", GroupNorm, 52),
        ("timm:resnet10t", "sn+ws", SwitchNorm2d, 14),
        ("timm:tf_efficientnet_b0", "gn", GroupNorm, 49),
    ],
)
def test_the_normalization_is_switched(name, norm, kind, number):
    model = switchnorm.create_model(name, norm=norm, num_classes=5)
    assert count(model, kind) == number
    assert count(model, nn.BatchNorm2d) == 0
    assert (count(model, WSConv2d) > 0) == norm.endswith("+ws")
    assert model.training
    logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_conv_standardizes_the_convolutions_that_feed_a_normalization():
    by_conv = switchnorm.create_model("resnet18", norm="gn", conv="ws")
    by_name = switchnorm.create_model("resnet18", norm="gn+ws")
    assert count(by_conv, WSConv2d) == 20
    assert repr(by_conv) == repr(by_name)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_without_a_norm_torchvision_is_as_its_authors_built_it(name):
    torch.manual_seed(3)
    expected = torchvision.models.get_model(name, weights=None)
    torch.manual_seed(3)
    found = switchnorm.create_model(name)
    assert repr(found) == repr(expected)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


def test_without_a_norm_timm_is_as_its_authors_built_it():
    torch.manual_seed(3)
    expected = timm.create_model("resnet10t", pretrained=False)
    torch.manual_seed(3)
    found = switchnorm.create_model("timm:resnet10t")
    assert repr(found) == repr(expected)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


def test_layer_norm_stays():
    with torch.device("meta"):
        vit = switchnorm.create_model("vit_b_16")
    assert count(vit, nn.LayerNorm) == 25
    mixed = switchnorm.create_model("timm:levit_128s", norm="sn")
    assert any(isinstance(module, switchnorm.SwitchNorm1d) for module in mixed.modules())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_logits_come_alone_in_training_too(name):
    with torch.device("meta"):
        model = switchnorm.create_model(name, num_classes=4)
        assert model(torch.empty(2, 3, 299, 299)).shape == (2, 4)


def test_options_reach_the_network():
    assert switchnorm.create_model("mobilenet_v3_small", dropout=0.31).classifier[2].p == 0.31
    assert switchnorm.create_model("resnet18", norm="sn", statistics="layer,batch").bn1.statistics == ("layer", "batch")
    assert switchnorm.create_model("timm:resnet10t", drop_rate=0.2).drop_rate == 0.2
    assert switchnorm.create_model("timm:resnet10t", in_chans=1).conv1[0].in_channels == 1
    with torch.device("meta"):
        assert switchnorm.create_model("googlenet", aux_logits=True).aux1 is not None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet18",
            {"zero_init": True},
            "option of 'resnet18' 'zero_init' is unknown; did you mean 'zero_init_residual'?",
        ),
        # This one's constructor takes any name and does nothing with it.
        (
            "mobilenet_v3_small",
            {"dropot": 0.3},
            "option of 'mobilenet_v3_small' 'dropot' is unknown; did you mean 'dropout'?",
        ),
        (
            "mobilenet_v3_small",
            {"dropout": 3},
            "model 'mobilenet_v3_small' cannot be built with dropout=3: dropout probab",
        ),
        ("resnet18", {"block": 3}, "model 'resnet18' cannot be built with block=3: "),
        ("resnet18", {"weights": "DEFAULT"}, "model 'resnet18' starts at random, without 'weights'; load a file with"),
        (
            "timm:resnet10t",
            {"pretrained": True},
            "starts at random, without 'pretrained'; load a file with load_published, or start a run from one with "
            "--train.warm_start FILE",
        ),
        ("timm:resnet10t", {"pretrained_cfg": {}}, "starts at random, without 'pretrained_cfg'"),
        ("timm:resnet10t", {"checkpoint_path": "x"}, "starts at random, without 'checkpoint_path'"),
        (
            "timm:resnet10t",
            {"features_only": True},
            "gives logits, so that 'features_only' is not an option; leave it out",
        ),
        (
            "timm:resnet10t",
            {"drop_rat": 0.1},
            "option of 'timm:resnet10t' 'drop_rat' is unknown; did you mean 'drop_rate'?",
        ),
        ("timm:regnety_002", {"foo": 1}, "option of 'timm:regnety_002' 'foo' is unknown; choose from "),
        ("timm:efficientvit_b0", {"foo": 1}, "model 'timm:efficientvit_b0' cannot be built with foo=1: "),
        ("resnet18", {"statistics": "layer"}, "statistics need a norm for 'resnet18'; the nearest valid norm is 'sn'"),
        (
            "resnet18",
            {"norm": "bn", "statistics": "layer"},
            "mixed by 'sn' and 'ssn', not by 'bn'; leave statistics out",
        ),
        ("resnet18", {"norm": "sn", "statistics": 3}, "statistics are names such as 'instance,layer', not 3"),
        ("resnet18", {"norm": "sn", "statistics": "layr"}, "statistic 'layr' is unknown; did you mean 'layer'?"),
        ("resnet18", {"norm": "sm"}, "norm 'sm' is unknown; did you mean 'sn'?"),
        ("resnet18", {"norm": "gn:3"}, "layer 'bn1': 3 groups do not divide 64 channels"),
        ("resnet18", {"conv": "wz"}, "conv 'wz' is unknown; did you mean 'ws'?"),
        (
            "resnet18",
            {"conv": "ws"},
            "conv 'ws' needs a norm for 'resnet18', which is left as it is without; try norm 'bn'",
        ),
        ("squeezenet1_0", {"norm": "sn"}, "model 'squeezenet1_0' has no normalization; leave norm and conv out"),
        ("vgg11", {"norm": "gn+ws"}, "model 'vgg11' has no normalization; leave norm and conv out"),
        # Its convolutions could be standardized, but that is not all that was asked for.
        (
            "convnext_tiny",
            {"norm": "gn+ws"},
            "has no normalization that switches, only LayerNorm, LayerNorm2d; leave norm",
        ),
        (
            "fcn_resnet50",
            {"weights_backbone": "DEFAULT"},
            "starts at random, without 'weights_backbone'; load a file with load_published",
        ),
        # torchvision's builders take any name and do nothing with it.
        ("fcn_resnet50", {"aux_los": True}, "option of 'fcn_resnet50' 'aux_los' is unknown; did you mean 'aux_loss'?"),
        ("fcn_resnet50", {"aux_loss": 1}, "option 'aux_loss' of 'fcn_resnet50' takes a bool, got 1"),
        (
            "lraspp_mobilenet_v3_large",
            {"aux_loss": True},
            "option of 'lraspp_mobilenet_v3_large' 'aux_loss' is unknown; choose from momentum, statistics",
        ),
        ("fcn_resnet18", {}, "model 'fcn_resnet18' is unknown; did you mean"),
        ("resnet18", {"num_classes": 0}, "num_classes 0 is impossible; the nearest valid number is 1"),
    ],
)
def test_what_makes_no_network_is_named(name, options, message):
    with torch.device("meta"), pytest.raises(InputError) as caught:
        switchnorm.create_model(name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_layer_norm_does_not_switch():
    with torch.device("meta"), pytest.raises(InputError) as caught:
        switchnorm.create_model("vit_b_16", norm="sn")
    assert str(caught.value) == (
        "model 'vit_b_16' has no normalization that switches, only LayerNorm; leave norm and conv out"
    )


def test_without_timm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    foreign._timm_names.cache_clear()
    for call in (lambda: switchnorm.create_model("timm:resnet10t"), lambda: switchnorm.list_models("timm:*")):
        with pytest.raises(InputError, match="need timm, which is not installed; run `pip install timm`"):
            call()
    assert "resnet50" in switchnorm.list_models()
