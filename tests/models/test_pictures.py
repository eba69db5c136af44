"""The pictures that networks of others expect, against what their libraries say."""

import pytest
import timm
import torchvision
from timm.data import resolve_data_config

from switchnorm.models import pictures_of
from switchnorm.models.pictures import Pictures

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_timm_says_it_for_a_network_and_for_an_encoder():
    found = pictures_of("timm:tf_efficientnet_lite0")
    assert found == Pictures((0.5,) * 3, (0.5,) * 3, "bicubic", size=224, crop=0.875)
    assert pictures_of("timm:tf_efficientnet_lite0_dilated16+c1_bilinear") == found
    assert found.resized(100) is None


def test_a_tag_names_other_weights_with_other_pictures():
    tagged, plain = (pictures_of(f"timm:efficientnet_b0{tag}") for tag in (".ra4_e3600_r224_in1k", ""))
    assert tagged.mean == (0.5, 0.5, 0.5)
    assert plain.mean == IMAGENET[0]
    assert pictures_of("timm:efficientnet_b0.ra4_e3600_r224_in1k_dilated8+upernet") == tagged


def test_what_is_done_otherwise_here_is_remarked():
    squash = "timm squashes pictures to squares there, and here the centre is cropped"
    assert pictures_of("timm:tf_efficientnetv2_b3.in21k_ft_in1k").remark == squash
    oblong = next(
        name
        for name in timm.list_models(include_tags=True)
        if len(set(timm.get_pretrained_cfg(name).input_size[1:])) == 2
    )
    found = pictures_of(f"timm:{oblong}")
    assert (found.size, found.crop) == (None, None)
    assert "here crops are squares" in found.remark
    padded = pictures_of("timm:volo_d5_512.sail_in1k")  # a crop of 512 pixels from pictures of 445
    assert (padded.size, padded.crop) == (512, 1)
    assert padded.remark == "timm pads pictures with black there, and here they fill the crop"


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation"),
    [
        ("resnet18", 224, 256, "bilinear"),
        ("resnet50", 224, 232, "bilinear"),
        ("inception_v3", 299, 342, "bilinear"),
        ("efficientnet_v2_l", 480, 480, "bicubic"),
        ("deeplabv3_resnet50", None, None, "bilinear"),
    ],
)
def test_torchvision_s_are_those_of_its_default_weights(name, size, resize, interpolation):
    found = pictures_of(name)
    colors = ((0.5,) * 3, (0.5,) * 3) if name == "efficientnet_v2_l" else IMAGENET
    assert found == Pictures(*colors, interpolation, size=size, resize=resize)


def test_the_short_side_goes_with_the_size():
    assert pictures_of("resnet50").resized(224) == 232
    assert pictures_of("resnet50").resized(112) == 116


@pytest.mark.parametrize(
    "name", ["cifar_resnet20", "resnetv1sn50", "resnet50_dilated8+upernet", "timm:none", "resnet51"]
)
def test_networks_of_this_library_and_unknown_ones_expect_nothing(name):
    assert pictures_of(name) is None


def test_every_network_of_others_says_it():
    for name in timm.list_models("*efficientnet*") + timm.list_models("*resnet*"):
        wanted = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        found = pictures_of(f"timm:{name}")
        assert (found.mean, found.std, found.interpolation) == (
            tuple(wanted["mean"]),
            tuple(wanted["std"]),
            wanted["interpolation"],
        )
    for name in torchvision.models.list_models(module=torchvision.models):
        assert pictures_of(name).size >= 224
