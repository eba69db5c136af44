"""Two-stage detectors against torchvision's own, and what they are called with."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.ops import MultiScaleRoIAlign

from switchnorm.errors import InputError
from switchnorm.models.detection.geometry import GEOMETRIES
from tests.models.detection.networks import NAMES, network, pictures, target

SIZES = ((64, 64), (64, 64))
TARGETS = [
    target(SIZES[0], [[3, 4, 30, 33], [20, 9, 60, 50], [31.5, 40, 44, 63]], [1, 3, 2]),
    target(SIZES[1], [[0, 0, 20, 25]], [3]),
]


class Called(nn.Module):
    """A part of a network that torchvision calls as a module."""

    def __init__(self, call, **attributes):
        super().__init__()
        self.call = call
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *args):
        return self.call(*args)


def witness(model: nn.Module) -> nn.Module:
    """torchvision's own detector with the layers of one of ours."""

    def maps(x):
        found = model.features(x)
        return OrderedDict((str(i) if i < 4 else "pool", each) for i, each in enumerate(found.values()))

    def pool(side):
        return MultiScaleRoIAlign(["0", "1", "2", "3"], side, 2)

    theirs = model.rpn
    options = {
        "rpn_anchor_generator": theirs.anchor_generator,
        "rpn_head": theirs.head,
        "rpn_post_nms_top_n_test": 110,
        "rpn_pre_nms_top_n_test": 110,
        "rpn_batch_size_per_image": 32,
        "box_batch_size_per_image": 24,
        "box_roi_pool": pool(7),
        "box_head": Called(model.box.features),
        "box_predictor": Called(lambda x: (model.box.cls_score(x), model.box.bbox_pred(x))),
        "min_size": 64,
        "max_size": 64,
        "image_mean": [0.0] * 3,
        "image_std": [1.0] * 3,
    }
    backbone = Called(maps, out_channels=16)
    if model.mask is None:
        found = FasterRCNN(backbone, **options)
    else:
        mask = {"mask_roi_pool": pool(14), "mask_head": Called(model.mask.convs)}
        mask["mask_predictor"] = Called(lambda x: model.mask.classify(F.relu(model.mask.upconv(x))))
        found = MaskRCNN(backbone, **options, **mask)
    found.transform.torch_choice = lambda sides: sides[0]  # which would draw a number
    return found


def gradients(model: nn.Module, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    sum((0.3 + place) * losses[key] for place, key in enumerate(sorted(losses))).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", NAMES[:3])
def test_losses_gradients_and_detections_are_torchvisions_with_the_same_weights_and_draws(name):
    ours = network(name)
    theirs = witness(ours)
    images = pictures(*SIZES)
    torch.manual_seed(3)
    expected = theirs.train()(images, [dict(each) for each in TARGETS])
    wanted = gradients(ours, expected)
    torch.manual_seed(3)
    found = ours.train()(images, TARGETS)
    assert found.keys() == expected.keys()
    for key, loss in expected.items():
        torch.testing.assert_close(found[key], loss, rtol=1e-5, atol=1e-6)
    for key, gradient in gradients(ours, found).items():
        torch.testing.assert_close(gradient, wanted[key], rtol=1e-3, atol=1e-5 * float(wanted[key].abs().max()))
    ours.eval()
    theirs.eval()
    ours.score_threshold = theirs.roi_heads.score_thresh = 0.2
    with torch.no_grad():
        both = list(zip(ours(images), theirs(images), strict=True))
    for ours_of_one, theirs_of_one in both:
        assert len(theirs_of_one["boxes"]) > 3
        assert ours_of_one.keys() == theirs_of_one.keys()
        for key, value in theirs_of_one.items():
            torch.testing.assert_close(ours_of_one[key], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("boxes", GEOMETRIES)
@pytest.mark.parametrize("name", NAMES)
def test_pictures_without_objects_and_of_any_size_are_learned_from(name, boxes):
    model = network(name, "sn", boxes=boxes)
    sizes = ((50, 90), (64, 33))
    targets = [
        target(sizes[0], [], []),
        target(sizes[1], [[3, 4, 30, 33]], [2], ignored=torch.tensor([[0.0, 40, 33, 64]])),
    ]
    for some in (targets, targets[:1]):
        losses = model(pictures(*sizes)[: len(some)], some)
        assert all(bool(torch.isfinite(loss)) for loss in losses.values())
        found = gradients(model, losses)
        assert [key for key, value in found.items() if value is None or not bool(torch.isfinite(value).all())] == []
    with torch.no_grad():
        model.eval().score_threshold = 0.0
        model.detections_per_image = 20
        for each, (height, width) in zip(model(pictures(*sizes)), sizes, strict=True):
            last = GEOMETRIES[boxes].last
            assert len(each["boxes"]) == 20
            assert bool((each["boxes"] >= 0).all())
            assert bool((each["boxes"] <= torch.tensor([width, height] * 2) - last).all())
            assert set(each["labels"].tolist()) <= {1, 2, 3}
            assert torch.equal(each["scores"], each["scores"].sort(descending=True).values)
            if model.mask is not None:
                assert each["masks"].shape == (20, 1, height, width)
        model.transform.paste = False
        if model.mask is not None:
            assert model(pictures(*sizes))[0]["masks"].shape == (20, 1, 28, 28)


def test_a_padded_batch_is_taken_as_it_is():
    model = network(NAMES[0])
    first, second = pictures((64, 90), (50, 64))
    targets = [target((64, 90), [[3, 4, 30, 33]], [1]), target((50, 64), [[30, 4, 60, 44]], [2])]
    targets = [{**each, "draw": torch.tensor(-(7**20) * sign)} for each, sign in zip(targets, (1, -1), strict=True)]
    losses = model([first, second], targets)
    batch = torch.zeros(2, 3, 64, 96)
    batch[0, :, :64, :90], batch[1, :, :50, :64] = first, second
    sized = [{**each, "size": torch.tensor(size)} for each, size in zip(targets, ((64, 90), (50, 64)), strict=True)]
    assert model.transform(batch, sized)[0].tensors is batch
    assert {k: v.item() for k, v in model(batch, sized).items()} == {k: v.item() for k, v in losses.items()}
    wider, _ = model.transform(torch.ones(1, 3, 33, 64))
    assert wider.tensors.shape == (1, 3, 64, 64)
    assert float(wider.tensors.sum()) == 3 * 33 * 64


def test_a_pictures_draw_decides_its_regions_alone():
    model = network(NAMES[2])
    first, second = pictures(*SIZES)
    draws = torch.tensor([5, -(2**62)])
    one, two = ({**each, "draw": draw} for each, draw in zip(TARGETS, draws, strict=True))

    def drawn(images, targets):
        """Negative anchors and regions of each picture."""
        batch, _ = model.transform(images)
        with torch.no_grad():
            maps = model.eval().features(batch.tensors)
            proposals, _ = model.rpn(batch, maps)
            anchors = model.rpn.anchor_generator(batch, list(maps.values()))[0]
            _, negative, _ = model.rpn.drawn(anchors, targets)
        regions = model.regions.draw(proposals, targets)
        of_picture = [set(negative[negative // len(anchors) == i].tolist()) for i in range(len(targets))]
        of_picture = [{index % len(anchors) for index in each} for each in of_picture]
        return list(zip(of_picture, [boxes.tolist() for boxes in regions.boxes], strict=True))

    both = drawn([first, second], [one, two])
    other = drawn([first, second], [{**one, "draw": torch.tensor(6)}, two])
    torch.manual_seed(9)
    assert drawn([first, second], [one, two]) == both
    assert drawn([second, first], [two, one]) == both[::-1]
    assert other[1] == both[1]
    assert other[0][0] != both[0][0]
    assert other[0][1] != both[0][1]


def test_crowds_are_neither_object_nor_background():
    model = network(NAMES[0])
    (image,) = pictures((64, 64))
    left = torch.tensor([[0.0, 0, 40, 64]])
    plain = target((64, 64), [[10, 10, 30, 33]], [1], draw=torch.tensor(1))
    crowd = {**plain, "ignored": left}
    batch, _ = model.transform([image])
    maps = model.features(batch.tensors)
    anchors = model.rpn.anchor_generator(batch, list(maps.values()))[0]
    inside = (anchors[:, 0] >= 0) & (anchors[:, 2] <= 40) & (anchors[:, 1] >= 0) & (anchors[:, 3] <= 64)
    for one, expected in ((plain, {0, 1}), (crowd, {-1, 1})):
        labels, _ = model.rpn._labelled(anchors, one)
        sure = labels[inside & (labels != -1)] if one is plain else labels[inside]
        assert set(sure.tolist()) == expected
    regions = torch.tensor([[2.0, 2, 9, 9], [10, 10, 30, 33], [41, 3, 60, 9], [30, 3, 60, 9]])
    labels, _ = model.regions._labelled(regions, crowd)
    assert labels.tolist() == [-1, 1, 0, 0]


def test_losses_are_divided_by_the_mean_count_over_processes():
    model = network(NAMES[2])
    images = pictures(*SIZES)
    targets = [{**each, "draw": torch.tensor(i)} for i, each in enumerate(TARGETS)]
    alone = model(images, targets)
    counts: list[float] = []

    def doubled(count, least):
        counts.append(float(count))
        return 2 * count

    model.mean_over_processes = doubled
    for key, loss in model(images, targets).items():
        torch.testing.assert_close(loss, alone[key] / 2)
    masks = counts[1 if len(counts) == 2 else 2]
    assert sorted(counts)[:2] == [48.0, 64.0]
    assert masks % 28**2 == 0
    model.mean_over_processes = lambda count, least: counts.append(-1.0) or count.clamp(min=least)
    model(images, [target(size, [], []) for size in SIZES])
    assert counts[3:] == [-1.0] * 3  # as many calls without objects, which other processes wait for


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (None, "in training mode needs targets"),
        ([target((64, 64), [], [])] * 2, "1 pictures need as many targets, got 2"),
        ([{"labels": torch.zeros(0, dtype=torch.int64)}], r"boxes of target 0 must be .* \(K, 4\), got NoneType"),
        ([{"boxes": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}], r"got shape \(0,\)"),
        ([{"boxes": torch.zeros(1, 4), "labels": torch.zeros(2, dtype=torch.int64)}], "must be 1 integers"),
        ([{"boxes": torch.tensor([[3.0, 4, 3, 9]]), "labels": torch.ones(1, dtype=torch.int64)}], "has no area"),
        (
            [{"boxes": torch.tensor([[3.0, 4, torch.nan, 9]]), "labels": torch.ones(1, dtype=torch.int64)}],
            "has no area",
        ),
        ([{"boxes": torch.tensor([[3.0, 4, torch.inf, 9]]), "labels": torch.ones(1, dtype=torch.int64)}], "or no end"),
        (
            [{**target((64, 64), [[3.0, 4, 5, 9]] * 2, [1, 1]), "masks": torch.ones(1, 64, 64)}],
            r"masks of target 0 must have the shape \(2, h, w\), got \(1, 64, 64\)",
        ),
        ([{"boxes": torch.tensor([[3.0, 4, 5, 9]]), "labels": torch.tensor([4])}], "label 4 is no class.* 1 to 3"),
        ([{"boxes": torch.tensor([[3.0, 4, 5, 9]]), "labels": torch.tensor([0])}], "label 0 is no class"),
        ([{"boxes": torch.tensor([[3.0, 4, 5, 9]]), "labels": torch.tensor([1])}], "needs masks in the targets"),
    ],
)
def test_targets_that_teach_nothing_are_refused(targets, words):
    with pytest.raises(InputError, match=words):
        network(NAMES[2])(pictures((64, 64)), targets)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "needs pictures, got none"),
        ([torch.zeros(64, 64)], r"picture 0 must be a tensor \(C, h, w\) .*, got shape \(64, 64\)"),
        (torch.zeros(3, 64, 64), r"got shape \(64, 64\)"),
        ([torch.zeros(3, 64, 64), torch.zeros(1, 64, 64)], r"picture 1 must .* as the others, got shape \(1, 64, 64\)"),
        (["a.png"], "got str"),
        ([torch.zeros(3, 64, 64, dtype=torch.uint8)], "picture 0 must be normalized, got torch.uint8"),
    ],
)
def test_what_is_no_picture_is_refused(images, words):
    with pytest.raises(InputError, match=words):
        network(NAMES[0]).eval()(images)


def test_regions_of_other_shapes_or_pictures_are_refused():
    model = network(NAMES[2]).eval()
    maps = model.features(torch.zeros(2, 3, 64, 64))
    for outputs in (model.box_outputs, model.mask_outputs):
        with pytest.raises(InputError, match=r"must have the shape \(K, 5\).* got \(1, 4\)"):
            outputs(maps, torch.zeros(1, 4))
        for number in (-1.0, 2.0, torch.nan):
            with pytest.raises(InputError, match="there are maps of 2, from 0 to 1"):
                outputs(maps, torch.tensor([[number, 3, 4, 30, 40]]))


def test_labels_may_be_integers_of_any_size():
    model = network(NAMES[0])
    losses = [
        model(pictures((64, 64)), [{**TARGETS[0], "labels": TARGETS[0]["labels"].to(dtype), "draw": torch.tensor(1)}])
        for dtype in (torch.int64, torch.int32, torch.uint8)
    ]
    assert losses[0] == losses[1] == losses[2]


def test_settings_of_evaluation_reach_what_detects():
    model = network(NAMES[0]).eval()
    images = pictures((64, 64))
    with torch.no_grad():
        model.score_threshold, model.nms_threshold, model.detections_per_image = 0.0, 0.9, 7
        assert len(model(images)[0]["boxes"]) == 7
        model.score_threshold = 1.0
        assert len(model(images)[0]["boxes"]) == 0
    with pytest.raises(InputError, match="no mask head"):
        model.mask_outputs({}, torch.zeros(0, 5))


def test_boxes_as_edges_are_one_pixel_further_in_the_published_geometry():
    model = network(NAMES[0], boxes="published").eval()
    images = pictures((64, 64))
    model.score_threshold = 0.1
    with torch.no_grad():
        (inclusive,) = model(images)
        model.transform.edges = True
        (edges,) = model(images)
    assert len(edges["boxes"]) > 0
    torch.testing.assert_close(edges["boxes"], inclusive["boxes"] + torch.tensor([0.0, 0, 1, 1]))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_which_nothing_is_proposed(name):
    model = network(name)
    model.rpn.min_size = 1000.0
    with torch.no_grad():
        found = model.eval()(pictures(*SIZES))
    assert [len(each["boxes"]) for each in found] == [0, 0]
    bare = [{**each, **{key: each[key][:0] for key in ("boxes", "labels", "masks")}} for each in TARGETS]
    losses = model.train()(pictures(*SIZES), [{**each, "draw": torch.tensor(i)} for i, each in enumerate(bare)])
    assert losses["loss_classifier"] == losses["loss_box_reg"] == 0
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES[2:])
def test_mixed_precision_leaves_boxes_and_losses_all_their_bits(name):
    # Few proposals: processors without instructions for 16 bits take seconds for each behind a whole stage of a body.
    model = network(name, proposals_train=4, rois_per_image=1, proposals_test=2)
    images = pictures(*SIZES)
    targets = [{**each, "draw": torch.tensor(i)} for i, each in enumerate(TARGETS)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(images, targets)
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
        model.eval().score_threshold = 0.0
        found = model(images)[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert not torch.equal(found["boxes"], found["boxes"].bfloat16().float())


def test_a_network_of_few_bits_takes_pictures_of_few_bits():
    model = network(NAMES[2]).bfloat16().eval()
    with torch.no_grad():
        found = model([image.bfloat16() for image in pictures(*SIZES)])
        maps = model.features(torch.stack(pictures(*SIZES)).bfloat16())
        assert model.box_outputs(maps, torch.tensor([[0.0, 3, 4, 30, 40]]))[0].dtype == torch.bfloat16
    assert len(found) == 2
