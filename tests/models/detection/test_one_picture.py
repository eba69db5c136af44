"""A detector as a function of one picture: the detector's own answers, also after tracing, at any size."""

import math
import warnings

import pytest
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

import switchnorm
from switchnorm.models.detection.geometry import GEOMETRIES
from switchnorm.models.detection.one_picture import FOUND, MASKS
from switchnorm.models.detection.traced import best, grid, rounded_down, suppressed
from tests.models.detection.networks import NAMES, network

OURS = (
    NAMES[2],
    "resnet18_fpn16+fcos",
    *(pytest.param(name, marks=pytest.mark.sweep) for name in (*NAMES[:2], NAMES[3], "resnet18_fpn16+retina")),
)
FOREIGN = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
    *(
        pytest.param(name, marks=pytest.mark.sweep)
        for name in (
            "fasterrcnn_mobilenet_v3_large_fpn",
            "fasterrcnn_resnet50_fpn",
            "fasterrcnn_resnet50_fpn_v2",
            "fcos_resnet50_fpn",
            "maskrcnn_resnet50_fpn",
            "maskrcnn_resnet50_fpn_v2",
            "retinanet_resnet50_fpn",
            "retinanet_resnet50_fpn_v2",
            "ssd300_vgg16",
        )
    ),
)
#: The names of the last layers before scores.
LAST = ("cls_score", "cls_logits", "mask_fcn_logits", "classify")
#: Sides that are no multiples of 32, maps of one place, and pictures that are small and long.
SIZES = ((97, 70), (33, 30), (20, 131), (128, 64))
#: The last but one is that of SSDs' own default boxes.
SSD_SIZES = ((321, 290), (268, 301), (320, 320), (300, 300))


def made(name, **options):
    if "retina" in name or "fcos" in name:
        torch.manual_seed(0)
        return switchnorm.create_model(name, norm="bn", num_classes=3, **options)
    return network(name, **options)


def detector(name, **options):
    """One that finds objects of all classes on noise, with scores that are apart."""
    if "+" in name:
        model = made(name, **options).eval()
    else:
        torch.manual_seed(0)
        model = switchnorm.create_model(name, num_classes=3).eval()
    torch.manual_seed(1)
    for path, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        last = path.rpartition(".")[2]
        scores = last in LAST or "classification_head.module_list" in path
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None and scores:
            nn.init.normal_(module.weight, std=0.05 if last == "cls_logits" else 0.3)
            nn.init.constant_(module.bias, -1.0 if last == "cls_logits" else 0.0)
    model.transform.paste, model.transform.edges = False, True
    return model


def check_alike(found, expected, names):
    """The same detections, bit for bit; those of equal scores in any order."""
    assert found[2].equal(expected["scores"])
    order, wanted = (by_all(*each) for each in (found[:3], [expected[name] for name in FOUND]))
    for name, value in zip(names, found, strict=True):
        assert value[order].equal(expected[name].reshape(value.shape)[wanted]), name


def by_all(boxes, labels, scores):
    rows = torch.cat([-scores[:, None], labels[:, None], boxes], 1).tolist()
    return sorted(range(len(rows)), key=rows.__getitem__)


def sizes(model):
    return SSD_SIZES if model.one_picture().smallest > 1 else SIZES


@pytest.mark.parametrize("name", [*OURS, *FOREIGN])
@torch.no_grad()
def test_it_finds_what_the_detector_finds_also_traced_and_at_other_sizes(name):
    model = detector(name)
    one = model.one_picture()
    assert one.outputs == ((*FOUND, MASKS) if "mask" in name else FOUND)
    pictures = [torch.randn(1, 3, *size) for size in sizes(model)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of numbers that are the same for all pictures
        traced = torch.jit.trace(one, (pictures[0],), check_trace=False)
    total = 0
    for picture in pictures:
        (expected,) = model([picture[0]])
        check_alike(one(picture), expected, one.outputs)
        check_alike(traced(picture), expected, one.outputs)
        total += len(expected["boxes"])
    assert total > 20


@pytest.mark.parametrize("name", NAMES[2:])
@torch.no_grad()
def test_boxes_of_the_published_geometry(name):
    model = detector(name, boxes="published")
    for size in SIZES[:2]:
        picture = torch.randn(1, 3, *size)
        (expected,) = model([picture[0]])
        assert len(expected["boxes"])
        check_alike(model.one_picture()(picture), expected, model.one_picture().outputs)


@torch.no_grad()
def test_a_picture_in_which_nothing_is_found():
    model = detector("resnet18_fpn16+mask_4conv1fc")
    model.score_threshold = 1.0
    boxes, labels, scores, masks = model.one_picture()(torch.randn(1, 3, 64, 64))
    assert boxes.shape == (0, 4)
    assert labels.shape == scores.shape == (0,)
    assert masks.shape == (0, 28, 28)


@torch.no_grad()
def test_half_precision_keeps_boxes_in_32_bits():
    model = detector("resnet18_fpn16+faster_2fc").bfloat16()
    boxes, _, scores = model.one_picture()(torch.randn(1, 3, 64, 64).bfloat16())
    assert boxes.dtype == scores.dtype == torch.float32
    assert len(boxes)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.sweep) for name in ("resnet18_fpn16+mask_4conv1fc", "resnet18_fpn16+fcos")],
)
@torch.no_grad()
def test_torch_export_follows_it_for_any_size_of_which_maps_have_rows_and_columns(name):
    model = detector(name)
    one = model.one_picture()
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(one, (torch.randn(1, 3, 161, 193),), dynamic_shapes=(any_size,)).module()
    for size in ((161, 193), (140, 260)):
        picture = torch.randn(1, 3, *size)
        (expected,) = model([picture[0]])
        check_alike(program(picture), expected, one.outputs)


def test_the_best_of_any_number():
    values, places = best(torch.tensor([0.5, 2.0, 1.0]), 2)
    assert values.tolist() == [2.0, 1.0]
    assert places.tolist() == [1, 2]
    values, places = best(torch.tensor([[0.5, 1.0]]), 3)
    assert values.tolist() == [[0.5, 1.0], [-math.inf] * 2, [-math.inf] * 2]
    assert places.tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("groups", [1, 5, 81])
def test_suppression_within_groups(groups):
    draw = torch.Generator().manual_seed(groups)
    low = torch.rand(300, 2, generator=draw) * 90
    boxes = torch.cat([low, (low + 5 + torch.rand(300, 2, generator=draw) * 60).clamp(max=100)], 1)
    scores, group = torch.rand(300, generator=draw), torch.randint(0, groups, (300,), generator=draw)
    expected = batched_nms(boxes, scores, group, 0.5)
    assert suppressed(boxes, scores, group, groups, 0.5, (80, 100)).tolist() == expected.tolist()


@pytest.mark.parametrize("published", [False, True])
def test_anchors_of_maps_of_any_size(published):
    sizes, strides = [(12.0,), (24.0, 30.0)], (4, 8)
    generator = GEOMETRIES["published" if published else "torchvision"].anchors(sizes, strides)
    for high, wide in ((96, 64), (8, 8), (8, 40)):
        images = torch.zeros(1, 3, high, wide)
        maps = [torch.zeros(1, 2, high // stride, wide // stride) for stride in strides]
        expected = generator(ImageList(images, [(high, wide)]), maps)[0]
        assert grid(generator, images, maps, torch.float32).equal(expected)


def test_uneven_maps_have_the_distance_of_torchvision():
    generator = AnchorGenerator(((8.0,),), ((1.0,),))
    images, maps = torch.zeros(1, 3, 50, 70), [torch.zeros(1, 2, 7, 9)]
    assert grid(generator, images, maps, torch.float64).equal(
        generator(ImageList(images, [(50, 70)]), [maps[0].double()])[0]
    )


def test_thresholds_are_rounded_so_that_32_bits_decide_alike():
    for threshold in (0.5, 0.7, 0.3, math.nextafter(0.5, 0), 1 / 3):
        down = rounded_down(threshold)
        assert torch.tensor(down).item() == down  # it has 32 bits
        above = torch.nextafter(torch.tensor(down), torch.tensor(1.0)).item()
        assert down <= threshold < above
