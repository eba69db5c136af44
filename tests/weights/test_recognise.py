"""Networks are recognised by keys and shapes, and few are built for it."""

import pytest
import torch

import switchnorm
from switchnorm.models import task_of
from switchnorm.weights import recognise as module
from switchnorm.weights.recognise import Recognised, candidates, norm_of, options_of, recognise
from tests.weights.files import GOLDEN, recorded_state

RECORDED = [path.name.removesuffix(".keys.json") for path in sorted(GOLDEN.glob("*.keys.json"))]
CLASSIFIERS = [name for name in RECORDED if not name.startswith(("ade_", "det_"))]
PUBLISHED_PAIR = "ade_resnet50_dilated8_c1_bilinear_deepsup"


@pytest.fixture
def built(monkeypatch):
    """The names of the networks that are built."""
    names = []

    def counted(name, **options):
        names.append(name)
        return switchnorm.create_model(name, **options)

    monkeypatch.setattr(module, "create_model", counted)
    return names


@pytest.mark.parametrize("network", CLASSIFIERS)
def test_published_networks_are_recognised(network, built):
    state = recorded_state(network)
    assert recognise(state) == Recognised(network, 10 if network.startswith("cifar") else 1000)
    assert len(built) <= 5


@pytest.mark.parametrize(
    ("network", "norm"),
    [
        ("digits_resnet9", "ssn"),
        ("digits_resnet9", "gn"),
        ("digits_resnet9", "ibn"),
        ("digits_resnet9", "bcn"),
        ("cifar_resnet20", "sn"),
        ("resnet50", "bn"),
        ("resnet50", "sn"),
        ("resnetv1sn50", None),
        ("resnetv1ssn50", None),
        ("l_resnet50", None),
        ("l_resnet18", None),
        ("l_resnext152", None),
        ("cifar_vgg16", None),
        ("cifar_vgg16_bn", "gn"),
        ("vgg16", None),
    ],
)
def test_our_own_networks_are_recognised_with_any_norm_and_number_of_classes(network, norm):
    with torch.device("meta"):
        state = switchnorm.create_model(network, norm=norm, num_classes=7).state_dict()
    assert recognise(state) == Recognised(network, 7)


def test_networks_without_the_batch_statistic_are_recognised():
    state = {key: value for key, value in recorded_state("resnetv1sn18").items() if "running" not in key}
    state = {key: value[:2] if key.endswith(("mean_weight", "var_weight")) else value for key, value in state.items()}
    assert recognise(state) == Recognised("resnetv1sn18", 1000)


def test_the_published_network_for_segmentation_is_recognised_but_for_its_dilation(built):
    alike = ("resnet50+c1_bilinear_deepsup", "resnet50_dilated16+c1_bilinear_deepsup")
    found = recognise(recorded_state(PUBLISHED_PAIR))
    assert found == Recognised("resnet50_dilated8+c1_bilinear_deepsup", 150, alike)
    assert len(built) <= 2


@pytest.mark.parametrize(
    ("network", "norm", "options"),
    [
        ("resnet18+upernet", "bn", {}),
        ("resnet18+upernet_lite", "ssn", {}),
        ("resnet34_dilated8+ppm_bilinear", "gn", {}),
        ("resnet101_dilated8+ppm_bilinear_deepsup", "sn", {}),
        ("resnet18_dilated8+ppm_bilinear_deepsup", "bn", {"deep_stem": True}),
        ("resnet50+upernet", "ssn", {"deep_stem": True}),
        ("fcn_resnet50", "bn", {"aux_loss": True}),
        ("deeplabv3_resnet101", "sn", {}),
        ("lraspp_mobilenet_v3_large", "gn", {}),
    ],
)
def test_networks_for_segmentation_are_recognised_in_any_order_of_keys(network, norm, options, built):
    with torch.device("meta"):
        state = switchnorm.create_model(network, norm=norm, num_classes=7, **options).state_dict()
    for found in (recognise(state), recognise({key: state[key] for key in sorted(state)})):
        assert found is not None
        assert (found.network, found.num_classes) == (network, 7)
        assert options_of(state) == options
        assert len(found.alike) == (2 if "+" in network else 0)
    assert len(built) <= 12


def test_no_network_for_segmentation_is_tried_for_a_classifier(built):
    assert recognise({**recorded_state("resnetv1sn18"), "extra.weight": torch.zeros(3)}) is None
    assert not [name for name in built if task_of(name) == "segmentation"]


def test_foreign_and_changed_networks_are_not(built):
    assert recognise({"a.weight": torch.zeros(3, 4)}) is None
    assert len(built) < 12
    state = recorded_state("cifar_resnet110")
    assert recognise({**state, "extra.weight": torch.zeros(3)}) is None
    assert recognise({**state, "conv1.weight": torch.zeros(16, 3, 5, 5)}) is None
    assert recognise({key: value for key, value in state.items() if key != "fc.bias"}) is None


def test_only_the_named_networks_are_tried(built):
    assert recognise(recorded_state("cifar_resnet110"), ["cifar_resnet20"]) is None
    assert built == ["cifar_resnet20"]


def test_the_norm_shows_in_the_keys():
    assert norm_of(recorded_state("resnetv1sn18")) == "sn"
    assert norm_of(recorded_state("resnetv1ssn50")) == "ssn"
    assert norm_of(recorded_state("cifar_resnet110")) == "bn"
    assert norm_of(recorded_state("l_resnet50")) is None


def test_networks_made_for_the_norm_come_first():
    assert next(candidates(recorded_state("resnetv1ssn50"))) == "resnetv1ssn50"
    assert next(candidates(recorded_state("l_resnet50"))) == "l_resnet50"


def test_a_flat_layer_does_not_hide_which_norm_tracks_some_channels():
    for norm in ("ibn", "bn"):
        assert norm_of(switchnorm.create_model("digits_resnet9", norm=norm).state_dict()) == norm
    assert norm_of(torch.nn.BatchNorm2d(1).state_dict()) == "bn"
