"""A norm for each part of a detector, and names of detectors."""

import functools
import math

import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import norm_of
from tests.models.detection.networks import network

MASK, C4, TWO_FC = "resnet18_fpn16+mask_4conv1fc", "resnet18_c4+faster", "resnet18_fpn16+faster_2fc"


def kinds(model: nn.Module) -> dict[str, set[str]]:
    """The normalizers of each part."""
    found: dict[str, set[str]] = {}
    for name, module in model.named_modules():
        if norm_of(module) is not None:
            found.setdefault(name.partition(".")[0], set()).add(norm_of(module).name)
    return found


def test_each_part_has_the_norm_that_is_asked_for():
    norms = {"body": "bn", "neck": "gn:4", "box": "ssn+ws", "mask": "ibn"}
    assert kinds(network(MASK, norms=norms)) == {"body": {"bn"}, "neck": {"gn"}, "box": {"ssn"}, "mask": {"ibn"}}
    assert kinds(network(MASK, "sn", norms={"body": "bn"}))["mask"] == {"sn"}
    assert kinds(network(C4, "sn", norms={"body": "bn"})) == {"body": {"bn"}, "box": {"sn"}}
    assert kinds(network(TWO_FC)) == {"body": {"bn"}, "neck": {"bn"}}


def test_parts_without_a_norm_have_biases():
    model = network(MASK, norms={"neck": "none", "box": "none", "mask": "none"})
    assert kinds(model) == {"body": {"bn"}}
    for part in (model.neck, model.box.convs, model.mask.convs):
        assert all(module.bias is not None for module in part.modules() if isinstance(module, nn.Conv2d))
    assert all(m.bias is None for m in network(MASK).neck.modules() if isinstance(m, nn.Conv2d))


def test_statistics_are_those_of_the_parts_that_mix():
    model = network(MASK, norms={"body": "bn", "box": "sn"}, statistics="instance,layer")
    mixing = [module.statistics for module in model.modules() if hasattr(module, "statistics")]
    assert mixing == [("instance", "layer")] * 4
    with pytest.raises(InputError, match="statistics are mixed by 'sn' and 'ssn', not by 'bn'"):
        network(MASK, statistics="instance,layer")


def test_a_part_may_have_layers_of_the_users_own():
    model = network(MASK, norms={"mask": functools.partial(nn.BatchNorm2d, momentum=0.25)})
    assert [m.momentum for m in model.mask.modules() if isinstance(m, nn.BatchNorm2d)] == [0.25] * 4


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (TWO_FC, {"norms": {"bdoy": "sn"}}, "part in norms of 'resnet18_fpn16.faster_2fc' 'bdoy' is unknown.*'body'"),
        (TWO_FC, {"norms": {"mask": "sn"}}, "'mask' is unknown"),
        (TWO_FC, {"norms": {"box": "sn"}}, "'box' is unknown"),
        (TWO_FC, {"norms": {"neck": "sm"}}, "norm 'sm' is unknown; did you mean 'sn'"),
        (TWO_FC, {"norms": {"body": "none"}}, "norms.body 'none' is impossible"),
        (C4, {"norms": {"box": "none"}}, "norms.box 'none' is impossible"),
        (TWO_FC, {"norms": "sn"}, "norms 'sn' must name parts, as .*; for all parts give norm"),
        ("cifar_resnet8", {"norms": {"body": "sn"}}, "has no parts with a norm of their own"),
        (TWO_FC, {"boxes": "publishd"}, "boxes 'publishd' is unknown; did you mean 'published'"),
        (TWO_FC, {"anchor_size": 0.0}, "anchor_size 0.0 is impossible"),
        ("resnet18_fpn16+retina", {"anchor_size": math.inf}, "anchor_size inf is impossible"),
        (TWO_FC, {"box_beta": math.nan}, "box_beta nan is impossible"),
        (TWO_FC, {"rois_per_image": 0}, "rois_per_image 0 is impossible"),
        (C4, {"box_channels": 7}, "'box_channels' is unknown"),
        ("resnet51_fpn+faster_2fc", {}, "depth 51 has no layout; the nearest valid depth is 50"),
        ("l_resnext18_fpn+faster_2fc", {}, "depth 18 has no layout; the nearest valid depth is 50"),
        ("resnet18_fpn0+faster_2fc", {}, "width 0 is impossible"),
        ("resnet18_fpn+faster_3fc", {}, r"did you mean 'resnet18_fpn\+faster_2fc'"),
    ],
)
def test_what_makes_no_detector_is_refused(name, options, words):
    with pytest.raises(InputError, match=words):
        switchnorm.create_model(name, **options)


def test_listed_networks_are_built_with_coco_s_classes():
    names = [name for name in switchnorm.list_models("*_fpn+*_*") if "50" in name and "2fc" in name]
    assert names == ["resnet50_fpn+faster_2fc", "l_resnext50_fpn+faster_2fc"]
    for name in (*names, "l_resnext101_fpn+mask_4conv1fc", "l_resnext50_c4+faster"):
        with torch.device("meta"):
            model = switchnorm.create_model(name, norm="gn+ws")
        assert model.box.cls_score.out_features == 81
        assert {m.groups for m in model.body.layer1.modules() if isinstance(m, nn.Conv2d)} <= {1, 32}
        assert model.body.layer1[0].conv2.groups == (32 if "resnext" in name else 1)
    assert switchnorm.models.task_of("resnet18_fpn64+faster_2fc") == "detection"


def test_the_parts_of_the_paper_s_mixed_rows_can_be_frozen_by_name():
    names = [name for name, _ in network(MASK).named_children()]
    assert names == ["transform", "body", "neck", "rpn", "box", "mask"]
    assert [name for name, _ in network(MASK).body.named_children()] == ["stem", "layer1", "layer2", "layer3", "layer4"]
