"""RetinaNet and FCOS of this library, and bodies of timm."""

import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm2d, GroupNorm, SwitchNorm2d
from switchnorm.models import pictures_of
from tests.models.detection.pictures import objects, pictures

SIZES = (64, 96), (70, 64)


def kinds(module: nn.Module) -> set[type[nn.Module]]:
    return {type(each) for each in module.modules()} & {BatchNorm2d, GroupNorm, SwitchNorm2d, nn.BatchNorm2d}


@pytest.mark.parametrize("heads", ["retina", "fcos"])
def test_a_step_reaches_every_parameter_and_evaluation_finds_boxes(heads):
    torch.manual_seed(0)
    model = switchnorm.create_model(f"resnet18_fpn16+{heads}", norm="sn", num_classes=3)
    assert [name for name, _ in model.named_children() if name != "anchor_generator"] == [
        "transform",
        "body",
        "neck",
        "head",
    ]
    losses = model(pictures(*SIZES), [objects(size, n) for size, n in zip(SIZES, (3, 0), strict=True)])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    model.score_threshold = 0.0
    with torch.no_grad():
        for found, (height, width) in zip(model(pictures(*SIZES)), SIZES, strict=True):
            assert 0 < len(found["boxes"]) <= 100
            assert (found["boxes"] >= 0).all()
            assert (found["boxes"] <= torch.tensor([width, height, width, height])).all()
            assert set(found["labels"].tolist()) <= {1, 2, 3}
    maps = model.features(torch.zeros(1, 3, 96, 128))
    assert {name: tuple(each.shape[1:]) for name, each in maps.items()} == {
        "p3": (16, 12, 16),
        "p4": (16, 6, 8),
        "p5": (16, 3, 4),
        "p6": (16, 2, 2),
        "p7": (16, 1, 1),
    }


def test_parts_have_their_own_normalization_and_fcos_head_groups_where_none_is_asked_for():
    with torch.device("meta"):
        usual, asked, mixed = (
            switchnorm.create_model("resnet18_fpn32+fcos", norm=norm, norms=norms)
            for norm, norms in ((None, None), ("sn", None), ("bn", {"neck": "none", "head": "sn"}))
        )
    assert [kinds(part) for part in (usual.body, usual.neck, usual.head)] == [{BatchNorm2d}, {BatchNorm2d}, {GroupNorm}]
    assert kinds(asked) == {SwitchNorm2d}
    assert [kinds(part) for part in (mixed.body, mixed.neck, mixed.head)] == [{BatchNorm2d}, set(), {SwitchNorm2d}]


@pytest.mark.parametrize("heads", ["retina", "fcos"])
def test_a_network_of_few_bits_tells_places_from_each_other(heads):
    torch.manual_seed(0)
    model = switchnorm.create_model(f"resnet18_fpn16+{heads}", norm="gn:4", num_classes=3).bfloat16()
    wide = torch.zeros(1, 3, 32, 1088, dtype=torch.bfloat16)
    batch, _ = model.transform(wide)
    maps = list(model.features(wide).values())
    anchors = model.anchors(batch, maps)
    assert anchors.dtype == torch.float32
    assert len(anchors[: model.levels(maps)[0]].unique(dim=0)) == model.levels(maps)[0]
    losses = model(wide, [objects((32, 1088), 3)])
    assert all(loss.isfinite() for loss in losses.values())
    model.eval().score_threshold = 0.0
    with torch.no_grad():
        assert model(wide)[0]["boxes"].dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (found,) = model.float()(wide.float())
    assert {found["boxes"].dtype, found["scores"].dtype} == {torch.float32}
    assert len(found["boxes"]) > 0


def test_training_needs_targets():
    model = switchnorm.create_model("resnet18_fpn16+retina", num_classes=3)
    with pytest.raises(InputError, match="needs targets"):
        model(pictures((64, 64)))


@pytest.mark.parametrize(("heads", "norm"), [("faster_2fc", "sn"), ("retina", None)])
def test_a_network_of_timm_is_a_body(heads, norm):
    torch.manual_seed(0)
    model = switchnorm.create_model(f"timm:resnet18_fpn16+{heads}", norm=norm, num_classes=3)
    assert kinds(model.body) == ({nn.BatchNorm2d} if norm is None else {SwitchNorm2d})
    assert model.body.channels == (64, 128, 256, 512)
    losses = model(pictures(*SIZES), [objects(size, 2) for size in SIZES])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert "body.layer1.0.conv1.weight" in model.state_dict()


def test_maps_of_transformers_have_their_channels_first():
    with torch.device("meta"):
        model = switchnorm.create_model("timm:swin_tiny_patch4_window7_224_fpn16+fcos", num_classes=3)
        maps = model.body(torch.empty(1, 3, 64, 96))
    assert [tuple(each.shape[1:]) for each in maps] == [(96, 16, 24), (192, 8, 12), (384, 4, 6), (768, 2, 3)]


def test_the_body_decides_the_pictures():
    assert pictures_of("timm:tf_efficientnet_lite0_fpn64+faster_2fc").mean == (0.5, 0.5, 0.5)
    assert pictures_of("resnet50_fpn+retina") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet18_fpn+retin", "did you mean 'retina'"),
        ("timm:resnt18_fpn+retina", "did you mean 'timm:resnet18'"),
        (
            "timm:vit_tiny_patch16_224_fpn+retina",
            "no maps of the strides 4, 8, 16, 32, which detectors take, but of 16",
        ),
        ("timm:resnet18_c4+faster", r"bodies of pyramids alone; the nearest is 'timm:resnet18_fpn\+faster_2fc'"),
        ("resnet51_fpn+retina", "nearest valid depth is 50"),
        ("resnet18_fpn0+fcos", "width 0 is impossible"),
    ],
)
def test_what_cannot_be_is_refused(name, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        switchnorm.create_model(name)
