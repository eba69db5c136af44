"""torchvision's detectors by their names compute what torchvision's do, with this library's pictures and counts."""

import copy

import pytest
import torch
import torchvision
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.models import pictures_of, task_of
from switchnorm.weights import load_published
from tests.models.detection.pictures import objects, pictures

NAMES = torchvision.models.list_models(module=torchvision.models.detection)
TAKEN = [name for name in NAMES if not name.startswith("keypoint")]
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
SIZES = (64, 96), (64, 70)
#: What torchvision's transform does by itself, undone: no other size, no other colours.
AS_IT_IS = {"min_size": 64, "max_size": 1000, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(module) is kind for module in model.modules())


def test_they_are_known_and_for_detection():
    assert set(TAKEN) == {name for name in switchnorm.list_models() if task_of(name) == "detection" and "+" not in name}
    assert len(TAKEN) >= 11


def pair(name, seed=0, **options):
    """torchvision's own network and ours, with the same weights."""
    torch.manual_seed(seed)
    theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=4, **AS_IT_IS)
    theirs.transform.torch_choice = lambda sizes: sizes[0]  # which would draw a number, for one size too
    ours = switchnorm.create_model(name, num_classes=3, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize(
    "name", [SMALL, *(pytest.param(n, marks=pytest.mark.sweep) for n in TAKEN if n != SMALL and "ssd" not in n)]
)
def test_losses_and_detections_are_torchvisions(name):
    theirs, ours = pair(name)
    images, targets = pictures(*SIZES), [objects(size, n) for size, n in zip(SIZES, (3, 0), strict=True)]
    targets = [{key: value for key, value in target.items() if key != "draw"} for target in targets]
    before = copy.deepcopy(ours.state_dict())
    torch.manual_seed(1)
    wanted = theirs(images, targets)
    torch.manual_seed(1)
    found = ours(images, targets)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6, msg=key)
    ours.load_state_dict(before)
    theirs.load_state_dict(before)
    theirs.eval()
    ours.eval()
    # Untrained networks are sure of nothing.
    (theirs if hasattr(theirs, "score_thresh") else theirs.roi_heads).score_thresh = 0.0
    ours.score_threshold = 0.0
    with torch.no_grad():
        for one, other in zip(ours(images), theirs(images), strict=True):
            kept = other["labels"] > 0  # a column of torchvision's that is no class
            assert one.keys() == other.keys()
            if kept.all():
                assert len(one["boxes"]) == len(other["boxes"])
                torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-6)


def test_the_pictures_keys_draw_the_regions_whatever_the_generator():
    torch.manual_seed(0)
    model = switchnorm.create_model(SMALL, num_classes=3, rpn_batch_size_per_image=8, box_batch_size_per_image=8)
    images, targets = pictures(*SIZES), [objects(size, 3, seed=n) for n, size in enumerate(SIZES)]
    state, losses = copy.deepcopy(model.state_dict()), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model.load_state_dict(state)
        losses.append(model(images, targets))
    assert all(torch.equal(losses[0][key], losses[1][key]) for key in losses[0])
    for target in targets:
        del target["draw"]
    model.load_state_dict(state)
    assert not torch.equal(model(images, targets)["loss_objectness"], losses[0]["loss_objectness"])


@pytest.mark.parametrize("name", [SMALL, "ssdlite320_mobilenet_v3_large"])
def test_counts_are_those_of_all_processes(name):
    torch.manual_seed(0)
    model = switchnorm.create_model(name, num_classes=3)
    state = copy.deepcopy(model.state_dict())
    images, targets = pictures(*SIZES), [objects(size, 3) for size in SIZES]
    wanted = model(images, targets)
    model.load_state_dict(state)
    model.mean_over_processes = lambda number, least: 2 * number.clamp(min=least)
    for key, value in model(images, targets).items():
        torch.testing.assert_close(value, wanted[key] / 2)


@pytest.mark.parametrize("name", [SMALL, pytest.param("retinanet_resnet50_fpn", marks=pytest.mark.sweep)])
def test_the_settings_of_evaluation_reach_the_right_module(name):
    torch.manual_seed(0)
    model = switchnorm.create_model(name, num_classes=3).eval()
    images = pictures((64, 64))
    with torch.no_grad():
        model.score_threshold, model.detections_per_image, model.nms_threshold = 0.0, 7, 1.0
        (found,) = model(images)
        assert len(found["boxes"]) == 7
        assert found["labels"].min() >= 1
        assert found["labels"].max() <= 3
        model.score_threshold = 1.0
        (none,) = model(images)
        assert len(none["boxes"]) == 0


@pytest.mark.sweep
def test_regions_are_pooled_by_the_strides_of_the_maps_also_of_a_first_picture_that_is_small():
    """torchvision takes the unpadded size, which gives half the stride where padding is most of it."""
    torch.manual_seed(0)
    model = switchnorm.create_model("fasterrcnn_resnet50_fpn", num_classes=3).eval()
    with torch.no_grad():
        model(pictures((33, 33)))
    assert model.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_the_second_retinanet_learns_boxes_by_their_overlap():
    with torch.device("meta"):
        rules = [switchnorm.create_model(f"retinanet_resnet50_fpn{version}").rule.box_loss for version in ("", "_v2")]
    assert rules == ["l1", "giou"]


@pytest.mark.sweep
def test_regions_can_be_asked_for():
    torch.manual_seed(0)
    model = switchnorm.create_model("maskrcnn_resnet50_fpn", num_classes=3).eval()
    with torch.no_grad():
        features = model.features(torch.randn(2, 3, 64, 64))
        rois = torch.tensor([[0, 1.0, 2, 30, 40], [1, 5, 5, 60, 60], [1, 0, 0, 9, 9]])
        logits, deltas = model.box_outputs(features, rois)
        assert (logits.shape, deltas.shape) == ((3, 4), (3, 16))
        assert model.mask_outputs(features, rois).shape == (3, 4, 28, 28)
        assert tuple(model.rpn_outputs(features)[0][0].shape) == (2, 3, 16, 16)
        torch.testing.assert_close(model.box_outputs(features, rois.flip(0))[0].flip(0), logits)  # in any order
        with pytest.raises(InputError, match="a region is of picture 2, but there are maps of 2, from 0 to 1"):
            model.box_outputs(features, rois + torch.tensor([1, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("keypointrcnn_resnet50_fpn", {}, "finds keypoints, which no task here trains"),
        (SMALL, {"min_size": 320}, "set data.short_sides"),
        (SMALL, {"image_mean": [0.0] * 3}, "set data.mean"),
        (SMALL, {"trainable_backbone_layers": 2}, "train.freeze"),
        (SMALL, {"box_nms_tresh": 0.5}, "did you mean 'box_nms_thresh'"),
        (SMALL, {"norms": {"body": "sn"}}, "no parts with a norm of their own"),
        (SMALL, {"in_channels": 4}, "takes pictures of 3 channels"),
        (SMALL, {"weights": "DEFAULT"}, "starts at random"),
        ("fasterrcnn_resnet50_fp", {}, "did you mean 'fasterrcnn_resnet50_fpn'"),
        ("ssd300_vgg16", {"norm": "sn"}, "has no normalization"),
    ],
)
def test_what_cannot_be_is_refused(name, options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        switchnorm.create_model(name, **options)


def test_small_pictures_are_refused_by_the_network_that_nothing_would_be_left_of():
    model = switchnorm.create_model("ssd300_vgg16", num_classes=3).eval()
    with pytest.raises(InputError, match="pictures of 96x300 are too small for this network; the smallest"):
        model(pictures((96, 300)))


@pytest.mark.sweep
def test_default_boxes_are_as_published_on_the_size_that_torchvision_shows_and_cover_any_other():
    model = switchnorm.create_model("ssd300_vgg16", num_classes=3).eval()

    def anchors(size):
        batch, _ = model.transform(pictures(size))
        return model.anchors(batch, list(model.features(batch.tensors).values()))

    theirs = torchvision.models.get_model("ssd300_vgg16", weights_backbone=None)
    with torch.no_grad():
        batch, _ = model.transform(pictures((300, 300)))
        wanted = theirs.anchor_generator(batch, list(model.features(batch.tensors).values()))[0]
        assert torch.equal(anchors((300, 300)), wanted)
        places = anchors((320, 416))
    centres = (places[:, :2] + places[:, 2:]) / 2
    assert centres[:, 0].max() > 400
    assert (centres[:, 0] <= 416).all()


def test_weights_for_cocos_90_numbers_load_into_a_network_for_the_80_in_use(tmp_path):
    torch.manual_seed(0)
    state = switchnorm.create_model(SMALL).state_dict()
    torch.save(state, tmp_path / "x.pth")
    model = load_published(switchnorm.create_model(SMALL, num_classes=80), tmp_path / "x.pth")
    rows = "roi_heads.box_predictor.bbox_pred.weight"
    assert state[rows].shape[0] == 4 * 91
    # "toothbrush" is the last of both, and 12 is the first number that is not in use.
    for mine, number in ((0, 0), (11, 11), (12, 13), (80, 90)):
        assert torch.equal(model.state_dict()[rows][4 * mine : 4 * mine + 4], state[rows][4 * number : 4 * number + 4])


def test_their_pictures_are_told_by_name():
    assert pictures_of("fasterrcnn_resnet50_fpn").mean == (0.485, 0.456, 0.406)
    assert pictures_of("ssdlite320_mobilenet_v3_large").std == (0.5, 0.5, 0.5)
    for name in TAKEN:
        with torch.device("meta"):
            theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None).transform
        assert (pictures_of(name).mean, pictures_of(name).std) == (tuple(theirs.image_mean), tuple(theirs.image_std))


NORMS = ("bn", "gn", "sn", "ssn", "gn+ws")
SAMPLE = [(SMALL, "sn"), ("ssdlite320_mobilenet_v3_large", "gn+ws")]
SWEEP = [(name, norm) for name in TAKEN if name != "ssd300_vgg16" for norm in NORMS if (name, norm) not in SAMPLE]


@pytest.mark.parametrize(("name", "norm"), [*SAMPLE, *(pytest.param(*each, marks=pytest.mark.sweep) for each in SWEEP)])
def test_a_step_is_finite_and_every_parameter_has_a_gradient(name, norm):
    torch.manual_seed(0)
    model = switchnorm.create_model(name, norm=norm, num_classes=3)
    assert count(model, nn.BatchNorm2d) == 0
    if norm in ("sn", "ssn"):
        assert count(model, SwitchNorm2d if norm == "sn" else SparseSwitchNorm2d) > 40
    sizes = (128, 96), (128, 128)
    losses = model(pictures(*sizes), [objects(sizes[0], 4), objects(sizes[1], 0)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", pytest.param("fcos_resnet50_fpn", marks=pytest.mark.sweep)])
def test_maps_can_be_computed_on_the_meta_device(name):
    with torch.device("meta"):
        model = switchnorm.create_model(name, norm="sn", num_classes=3)
        maps = model.features(torch.empty(2, 3, 64, 96))
    assert [tuple(each.shape[2:]) for each in maps.values()][-1] in ((1, 2), (1, 1))
