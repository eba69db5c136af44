import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import Spec, SwitchNorm
from switchnorm.models import create_model, list_models, norm_of, registry, task_of
from switchnorm.models.family import COMMON, Family
from switchnorm.models.options import explained
from switchnorm.models.registry import FAMILIES
from tests import golden

RECORDS = Path(__file__).parents[1] / "golden"
# A record without logits belongs to a network of another task.
NETWORKS = sorted(
    name
    for path in RECORDS.glob("*.keys.json")
    if (record := RECORDS / f"{(name := path.name.removesuffix('.keys.json'))}.npz").exists()
    and "logits" in np.load(record)
)


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        switchnorm.create_model(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_published_networks_are_recorded():
    assert {"resnetv1sn18", "resnetv1sn50", "resnetv1ssn50", "resnetv2sn18", "l_resnet50", "l_resnext50"} < {*NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_checkpoints_give_the_published_logits(name, tmp_path):
    record = np.load(RECORDS / f"{name}.npz")
    file = tmp_path / "published.pth"
    torch.save(golden.state_dict(json.loads((RECORDS / f"{name}.keys.json").read_text())), file)
    model = switchnorm.load_published(switchnorm.create_model(name), file).eval()
    file.unlink()  # pytest keeps its folders for a while, and these files are large.
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    with torch.no_grad():
        logits = model(golden.images(int(record["batch"]), int(record["size"])))
    expected = torch.from_numpy(record["logits"])
    # The record's tolerance for networks in float32: 1e-4 of the largest output.
    torch.testing.assert_close(logits, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def kinds(model: nn.Module) -> set[str]:
    return {type(m).__name__ for m in model.modules() if type(m).__name__.endswith(("Norm2d", "GroupNorm", "Conv2d"))}


@pytest.mark.parametrize(
    ("name", "norm", "conv", "expected"),
    [
        ("cifar_resnet20", None, "", {"BatchNorm2d", "Conv2d"}),
        ("cifar_resnet20", None, "ws", {"BatchNorm2d", "WSConv2d"}),
        ("cifar_resnet20", "ssn", "", {"SparseSwitchNorm2d", "Conv2d"}),
        ("resnetv1sn18", None, "", {"SwitchNorm2d", "Conv2d"}),
        ("resnetv1sn18", None, "ws", {"SwitchNorm2d", "WSConv2d"}),
        ("resnetv1sn18", "bn", "", {"BatchNorm2d", "Conv2d"}),
        ("resnetv1ssn18", None, "", {"SparseSwitchNorm2d", "Conv2d"}),
        ("resnetv2sn18", None, "", {"SwitchNorm2d", "Conv2d"}),
        ("resnetv2ssn18", None, "", {"SparseSwitchNorm2d", "Conv2d"}),
        ("l_resnet18", None, "", {"GroupNorm", "WSConv2d"}),
        ("l_resnet18", "gn", "", {"GroupNorm", "Conv2d"}),
    ],
)
def test_the_name_says_the_norm_unless_one_is_given(name, norm, conv, expected):
    with torch.device("meta"):
        assert kinds(switchnorm.create_model(name, norm=norm, conv=conv)) == expected


def test_conv_and_plus_ws_are_the_same():
    by_conv = switchnorm.create_model("cifar_resnet20", norm="gn", conv="ws")
    by_name = switchnorm.create_model("cifar_resnet20", norm="gn+ws")
    both = switchnorm.create_model("cifar_resnet20", norm="gn+ws", conv="ws")
    assert repr(by_conv) == repr(by_name) == repr(both)


@pytest.mark.parametrize(("name", "classes"), [("cifar_resnet20", 10), ("digits_resnet9", 10), ("resnetv1sn18", 1000)])
def test_as_many_classes_as_the_dataset_of_the_name(name, classes):
    with torch.device("meta"):
        assert switchnorm.create_model(name).fc.out_features == classes
        assert switchnorm.create_model(name, num_classes=7).fc.out_features == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar_resnt20"}, "model 'cifar_resnt20' is unknown; did you mean 'cifar_resnet20'?"),
        ({"name": "resnetv1sm50"}, "model 'resnetv1sm50' is unknown; did you mean 'resnetv1sn50'?"),
        ({"name": "resnt50"}, "model 'resnt50' is unknown; did you mean 'resnet50'?"),
        ({"name": "ResNet50"}, "model 'ResNet50' is unknown; did you mean 'resnet50'?"),
        ({"name": "timm:resnt10t"}, "model 'timm:resnt10t' is unknown; did you mean 'timm:resnet10t'?"),
        ({"name": "tim:resnet10t"}, "model 'tim:resnet10t' is unknown; did you mean "),
        ({"name": ""}, "model '' is unknown; choose from cifar_"),
        ({"name": "cifar_resnet20", "norm": "sm"}, "norm 'sm' is unknown; did you mean 'sn'?"),
        ({"name": "cifar_resnet20", "norm": ""}, "norm '' is unknown; choose from bn, "),
        ({"name": "cifar_resnet20", "norm": "sn+sw"}, "norm 'sn+sw' is unknown; did you mean 'sn+ws'?"),
        ({"name": "cifar_resnet20", "conv": "wz"}, "conv 'wz' is unknown; did you mean 'ws'?"),
        ({"name": "cifar_resnet20", "norm": "gn:3"}, "the nearest group counts are 2 or 4"),
        ({"name": "cifar_resnet20", "num_classes": 0}, "num_classes 0 is impossible; the nearest valid number is 1"),
        (
            {"name": "cifar_resnet20", "num_classes": 1.5},
            "num_classes 1.5 is impossible; the nearest valid number is 1",
        ),
        (
            {"name": "cifar_alexnet", "norm": "sn"},
            "model 'cifar_alexnet' has no normalization; leave norm and conv out",
        ),
        (
            {"name": "cifar_alexnet", "conv": "ws"},
            "model 'cifar_alexnet' has no normalization; leave norm and conv out",
        ),
        (
            {"name": "cifar_vgg16", "norm": "bn"},
            "model 'cifar_vgg16' has no normalization; leave norm and conv out",
        ),
        (
            {"name": "cifar_vgg16", "norm": nn.BatchNorm2d},
            "model 'cifar_vgg16' has no normalization; leave norm and conv out",
        ),
        ({"name": "cifar_vgg16", "conv": "ws"}, "model 'cifar_vgg16' has no normalization; leave norm and conv out"),
        (
            {"name": "cifar_vgg16", "statistics": "instance"},
            "model 'cifar_vgg16' has no normalization; leave statistics out",
        ),
        (
            {"name": "cifar_vgg11_bn", "dropout": 0.1},
            "option of 'cifar_vgg11_bn' 'dropout' is unknown; choose from in_channels, momentum, statistics, tied",
        ),
        (
            {"name": "cifar_resnet20", "embeding": 3},
            "option of 'cifar_resnet20' 'embeding' is unknown; did you mean 'embedding'?",
        ),
        (
            {"name": "cifar_resnet20", "momentm": 0.1},
            "option of 'cifar_resnet20' 'momentm' is unknown; did you mean 'momentum'?",
        ),
        ({"name": "resnet18", "momentm": 0.1}, "option of 'resnet18' 'momentm' is unknown; did you mean 'momentum'?"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_that_is_right(arguments, message):
    assert message in refusal(**arguments)


def test_of_many_names_an_error_lists_the_first_alone():
    with pytest.raises(InputError) as caught:
        switchnorm.create_model("")
    assert 10 < str(caught.value).count(",") < 24
    assert len(str(caught.value)) < 300
    assert str(caught.value).endswith(" more")


@pytest.mark.parametrize("name", ["resnt50", "timm:resnt10t", "resnetv1sn42", "cifar_resnet21"])
def test_a_wrong_name_builds_nothing(name, monkeypatch):
    switchnorm.list_models("timm:*")  # Importing these libraries builds small modules.

    def build(*args, **kwargs):
        raise AssertionError("built")

    monkeypatch.setattr(nn.Conv2d, "__init__", build)
    refusal(name)


def test_list_models_filters_by_glob():
    assert switchnorm.list_models("cifar_r*20") == ["cifar_resnet20"]
    assert switchnorm.list_models("resnetv[12]s*n50") == [
        "resnetv1sn50",
        "resnetv1ssn50",
        "resnetv2sn50",
        "resnetv2ssn50",
    ]
    assert switchnorm.list_models("l_resnext*[0-9]") == ["l_resnext50", "l_resnext101", "l_resnext152"]
    assert switchnorm.list_models("l_resnet*") == [f"l_resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    assert switchnorm.list_models("cifar_vgg1[69]*") == [
        *("cifar_vgg16", "cifar_vgg19"),
        *("cifar_vgg16_bn", "cifar_vgg19_bn"),
    ]
    assert switchnorm.list_models("no such network") == []
    everything = switchnorm.list_models()
    assert {"digits_resnet9", "cifar_alexnet", "resnetv2ssn152", "resnet50", "vit_b_16"} < set(everything)
    assert len(set(everything)) == len(everything)
    assert not [name for name in everything if name.startswith("timm:")]


def test_every_listed_name_belongs_to_one_family():
    for family in FAMILIES:
        for name in family.names:
            assert [other for other in FAMILIES if other.numbers(name) is not None] == [family], name


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("cifar_resnet20", "classification"),
        ("resnetv1sn50", "classification"),
        ("resnet50", "classification"),
        ("timm:resnet10t", "classification"),
        ("resnet50_dilated8+ppm_bilinear_deepsup", "segmentation"),
        ("resnet18+upernet", "segmentation"),
        ("deeplabv3_resnet50", "segmentation"),
        ("no such network", "classification"),
    ],
)
def test_the_task_is_known_by_the_name(name, task):
    assert task_of(name) == task


def test_our_networks_need_no_other_library():
    code = """
import sys, switchnorm
switchnorm.create_model("cifar_resnet20")
switchnorm.create_model("resnet18+c1_bilinear")
switchnorm.models.task_of("fcn_resnet50")
try: switchnorm.create_model("resnetv1sn50", norm="sm")
except ValueError as error: print(error)
print("torchvision" in sys.modules, "timm" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["norm 'sm' is unknown; did you mean 'sn'?", "False False"]


def build(
    first: int, second: str | None, *, norm: Spec, num_classes: int = 3, rate: float = 0.0, on: bool = False, free=None
):
    return nn.Linear(1, 1)


FAMILY = Family(r"net(\d+)(?:_(x))?", build, ("net1", "net2_x"))


def test_a_name_s_numbers_are_the_builder_s_arguments():
    assert FAMILY.numbers("net12") == (12, None)
    assert FAMILY.numbers("net3_x") == (3, "x")
    assert FAMILY.numbers("net") is FAMILY.numbers("anet1") is FAMILY.numbers("net1_y") is None


@pytest.mark.parametrize("options", [{"rate": 0.5}, {"rate": 1}, {"on": True}, {"free": "anything", "on": False}, {}])
def test_options_of_the_annotated_type_are_taken(options):
    FAMILY.check_options("net1", options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rte": 1}, "option of 'net1' 'rte' is unknown; did you mean 'rate'?"),
        ({"norm": 1}, "option of 'net1' 'norm' is unknown"),
        ({"first": 1}, "option of 'net1' 'first' is unknown"),
        ({"rate": "0.5"}, "option 'rate' of 'net1' takes a float, got '0.5'"),
        ({"rate": True}, "option 'rate' of 'net1' takes a float, got True"),
        ({"rate": None}, "option 'rate' of 'net1' takes a float, got None"),
        ({"on": "no"}, "option 'on' of 'net1' takes a bool, got 'no'"),
        ({"on": 1}, "option 'on' of 'net1' takes a bool, got 1"),
    ],
)
def test_other_options_are_not(options, message):
    with pytest.raises(InputError, match="^" + message.replace("?", r"\?")):
        FAMILY.check_options("net1", options)


def test_every_builder_says_what_its_options_are():
    for family in FAMILIES:
        parameters = inspect.signature(family.build, eval_str=True).parameters.values()
        assert not [p for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)], family
        options = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in COMMON]
        assert all(p.default is not p.empty and p.annotation is not p.empty for p in options), family


@pytest.mark.parametrize("name", ["digits_resnet9", "cifar_densenet10_8", "resnetv2sn18", "resnet18"])
def test_every_network_mixes_the_statistics_that_are_asked_for(name):
    with torch.device("meta"):
        model = switchnorm.create_model(name, norm="ssn", statistics=["instance", "layer"])
    layers = [m for m in model.modules() if isinstance(m, SwitchNorm)]
    flat = name == "digits_resnet9"  # whose embedding has no instance statistic
    assert {m.statistics for m in layers} == {("instance", "layer"), *([("layer",)] if flat else [])}
    assert not [key for key in model.state_dict() if "running_" in key]


def test_errors_of_a_builder_are_its_own_only_without_options():
    with pytest.raises(KeyError), explained("net", {}):
        raise KeyError("x")
    with (
        pytest.raises(InputError, match=r"^model 'net' cannot be built with a=1, b='c': too\.$"),
        explained("net", {"a": 1, "b": "c"}),
    ):
        raise ValueError("too.\nlong")
    with pytest.raises(InputError, match=r"cannot be built with a=1: AssertionError$"), explained("net", {"a": 1}):
        raise AssertionError
    with pytest.raises(InputError, match=r"^as it is$"), explained("net", {"a": 1}):
        raise InputError("as it is")


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnetv1ssn50", "ssn"),
        ("l_resnext101", "gn+ws"),
        ("cifar_wrn40_4", "bn"),
        ("resnet50_dilated8+upernet", "bn"),
        ("cifar_alexnet", None),
        ("cifar_vgg16", None),
        ("cifar_vgg16_bn", "bn"),
        ("resnet50", None),
        ("timm:resnet50", None),
        ("nobody", None),
    ],
)
def test_what_a_network_normalizes_with_by_itself(name, norm):
    assert norm_of(name) == norm


def test_a_norm_may_be_a_spec():
    by_spec = switchnorm.create_model("cifar_resnet20", norm=Spec("gn", ws=True))
    assert repr(by_spec) == repr(switchnorm.create_model("cifar_resnet20", norm="gn+ws"))


@pytest.mark.usefixtures("own_registry")
def test_networks_of_ones_own_take_no_name_that_is_there():
    def build(width, *, norm, num_classes):
        return torch.nn.Linear(width, num_classes)

    for family, message in [
        (Family(r"resnet(\d+)", build, ("resnet18",)), "model 'resnet18' exists already"),
        (Family(r"cifar_resnet(\d+)", build, ("cifar_resnet20",)), "exists already"),
        (Family(r"mine(\d+)", build, ("other3",)), "does not match"),
        (Family(r".*", build, ()), "needs the names"),
        (Family(r"mine(\d+)", build, ("mine3",), norm="sm"), "did you mean 'sn'"),
        ("mine3", "takes a Family, got str"),
    ]:
        with pytest.raises(InputError, match=message):
            registry.register(family)

    def greedy(*, norm, num_classes, momentum: float = 0.5):
        return torch.nn.Linear(1, num_classes)

    with pytest.raises(InputError, match=r"^family 'greedy' has an option 'momentum', which every network has; rename"):
        registry.register(Family("greedy", greedy, ("greedy",)))
    registry.register(Family(r"mine(\d+)", build, ("mine3",)))
    assert create_model("mine3", num_classes=5).out_features == 5
    assert "mine3" in list_models("mine*")


@pytest.mark.usefixtures("own_registry")
def test_networks_of_ones_own_may_have_no_normalization():
    def build(width, *, num_classes):
        return nn.Linear(width, num_classes)

    registry.register(Family(r"plain(\d+)", build, ("plain3",), norm=None))
    assert norm_of("plain3") is None
    assert create_model("plain3", num_classes=5).in_features == 3
    with pytest.raises(InputError, match="model 'plain3' has no normalization; leave norm and conv out"):
        create_model("plain3", norm="sn")


@pytest.mark.parametrize("family", [each for each in FAMILIES if each.names], ids=lambda family: family.pattern)
def test_every_network_of_the_library_takes_any_number_of_channels(family):
    torch.manual_seed(0)
    model = create_model(family.names[0], in_channels=5).eval()
    side = 64 if family.task == "segmentation" else 32
    with torch.no_grad():
        found = model(torch.randn(1, 5, side, side))
    if family.task == "detection":
        assert len(found) == 1
        assert found[0].keys() >= {"boxes", "labels", "scores"}
        assert model.transform.num_classes == family.num_classes
    else:
        assert (found["out"] if isinstance(found, dict) else found).shape[1] == family.num_classes
    with pytest.raises(InputError, match="in_channels"):
        create_model(family.names[0], in_channels=0)


def test_channels_are_called_alike_in_networks_of_timm_and_refused_by_torchvisions():
    assert create_model("timm:resnet10t", in_channels=4).conv1[0].in_channels == 4
    with pytest.raises(InputError, match="'resnet18' takes pictures of 3 channels"):
        create_model("resnet18", in_channels=4)
