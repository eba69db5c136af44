"""The rules of detectors without proposals against torchvision's, and where they differ from these."""

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from switchnorm.models.detection.dense_rule import NEITHER
from switchnorm.models.detection.fcos_rule import FcosRule
from switchnorm.models.detection.losses import alone
from switchnorm.models.detection.retina_rule import RetinaRule
from switchnorm.models.detection.ssd_rule import SsdRule

SIDES = (16, 8, 4, 2, 1)
CLASSES = 3


class Bare(torch.nn.Module):
    """A backbone of which torchvision's classes ask the channels alone."""

    out_channels = 32


def theirs(kind, **options):
    """torchvision's network, which judges outputs, and the anchors of pictures of 128 pixels."""
    torch.manual_seed(0)
    if kind is SSD:
        boxes = DefaultBoxGenerator([[2]] * len(SIDES))
        network = kind(Bare(), boxes, (128, 128), CLASSES + 1, head=torch.nn.Identity(), **options)
    else:
        network = kind(Bare(), CLASSES + 1, **options)
    maps = [torch.zeros(1, 8, side, side) for side in SIDES]
    anchors = network.anchor_generator(ImageList(torch.zeros(1, 3, 128, 128), [(128, 128)]), maps)[0]
    per_place = network.anchor_generator.num_anchors_per_location()
    return network, anchors, [n * side**2 for n, side in zip(per_place, SIDES, strict=True)]


def outputs_of(kind, count, pictures, seed=1):
    draw = torch.Generator().manual_seed(seed)
    found = {
        "cls_logits": torch.randn(pictures, count, CLASSES + 1, generator=draw),
        "bbox_regression": torch.randn(pictures, count, 4, generator=draw),
    }
    if kind is detection.FCOS:
        found["bbox_regression"] = found["bbox_regression"].relu() * 3
        found["bbox_ctrness"] = torch.randn(pictures, count, 1, generator=draw)
    return {name: value.requires_grad_() for name, value in found.items()}


def targets_of(counts, seed=2):
    draw = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        least = torch.rand(count, 2, generator=draw) * 80
        side = 6 + torch.rand(count, 2, generator=draw) ** 2 * 100
        boxes = torch.cat([least, (least + side).clamp(max=128)], 1)
        found.append({"boxes": boxes, "labels": torch.randint(1, CLASSES + 1, (count,), generator=draw)})
    return found


class OverlapRule(RetinaRule):
    """That of torchvision's second version."""

    box_loss = "giou"


RULES = [(detection.RetinaNet, RetinaRule), (detection.FCOS, FcosRule), (SSD, SsdRule)]
each_rule = pytest.mark.parametrize(("kind", "rule"), RULES, ids=lambda value: value.__name__)


def judged_by_torchvision(network, kind, outputs, anchors, levels, targets):
    many = [anchors] * len(targets)
    if kind is detection.FCOS:
        return network.compute_loss(targets, outputs, many, levels)
    if kind is detection.RetinaNet:
        return network.compute_loss(targets, outputs, many)
    from torchvision.ops import box_iou

    matches = [
        network.proposal_matcher(box_iou(target["boxes"], anchors))
        if len(target["boxes"])
        else torch.full((len(anchors),), -1)
        for target in targets
    ]
    return network.compute_loss(targets, outputs, many, matches)


def losses_of(rule, outputs, anchors, levels, targets, mean=alone):
    return rule.losses(outputs, anchors, rule.matches(anchors, levels, targets), targets, mean)


@pytest.mark.parametrize(("kind", "rule"), [*RULES, (detection.RetinaNet, OverlapRule)], ids=lambda v: v.__name__)
@pytest.mark.parametrize("counts", [(3, 0, 7), (0, 0), (1,)])
def test_losses_and_gradients_are_torchvisions(kind, rule, counts):
    network, anchors, levels = theirs(kind)
    if rule is OverlapRule:
        network.head.regression_head._loss_type = "giou"
    targets = targets_of(counts)
    expected = outputs_of(kind, len(anchors), len(counts))
    wanted = judged_by_torchvision(network, kind, expected, anchors, levels, targets)
    sum(wanted.values()).backward()
    outputs = outputs_of(kind, len(anchors), len(counts))
    found = losses_of(rule(1), outputs, anchors, levels, targets)
    sum(found.values()).backward()
    assert found.keys() == wanted.keys()
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)
    for name, value in outputs.items():
        torch.testing.assert_close(value.grad, expected[name].grad, rtol=1e-4, atol=1e-7)


@each_rule
def test_detections_are_torchvisions(kind, rule):
    limits = {"score_thresh": 0.6, "nms_thresh": 0.4, "detections_per_img": 17, "topk_candidates": 40}
    network, anchors, levels = theirs(kind, **limits)
    sizes = [(128, 96), (100, 128)]
    with torch.no_grad():
        outputs = outputs_of(kind, len(anchors), 2)
        # torchvision's heads give scores to the background, which are no detections here.
        outputs["cls_logits"][..., 0] = -100.0
        if kind is SSD:
            wanted = network.postprocess_detections(outputs, [anchors] * 2, sizes)
        else:
            split = {name: list(value.split(levels, 1)) for name, value in outputs.items()}
            wanted = network.postprocess_detections(split, [list(anchors.split(levels))] * 2, sizes)
        found = rule(1, *limits.values()).detections(outputs, anchors, levels, sizes)
    for ours, each in zip(found, wanted, strict=True):
        assert len(ours["boxes"]) == 17
        for name in ("boxes", "labels", "scores"):
            torch.testing.assert_close(ours[name], each[name])


@pytest.mark.parametrize(("kind", "rule"), RULES[:2], ids=lambda value: value.__name__)
def test_a_head_without_a_column_for_the_background_counts_from_its_first(kind, rule):
    _, anchors, levels = theirs(kind)
    targets = targets_of((2, 5))
    with_column = outputs_of(kind, len(anchors), 2)
    without = {name: value.detach() for name, value in with_column.items()}
    without["cls_logits"] = without["cls_logits"][..., 1:]
    with torch.no_grad():
        with_column["cls_logits"][..., 0] = -100.0
        for one, other in (
            (
                losses_of(rule(1), with_column, anchors, levels, targets),
                losses_of(rule(), without, anchors, levels, targets),
            ),
            *zip(
                rule(1).detections(with_column, anchors, levels, [(128, 128)] * 2),
                rule().detections(without, anchors, levels, [(128, 128)] * 2),
                strict=True,
            ),
        ):
            assert one.keys() == other.keys()
            for name in one:
                torch.testing.assert_close(one[name], other[name])


@each_rule
def test_regions_that_do_not_count_are_neither_objects_nor_background(kind, rule):
    _, anchors, levels = theirs(kind)
    (target,) = targets_of((4,))
    region = torch.tensor([[0.0, 0.0, 64.0, 128.0]])
    rule = rule(1)
    (plain,), (ignoring,) = (rule.matches(anchors, levels, [each]) for each in (target, {**target, "ignored": region}))
    assert torch.equal(plain >= 0, ignoring >= 0)
    assert torch.equal(plain[plain >= 0], ignoring[ignoring >= 0])
    changed = plain != ignoring
    assert changed.any()
    assert (ignoring[changed] == NEITHER).all()
    centre = (anchors[:, 0] + anchors[:, 2]) / 2
    assert (centre[changed] < 96).all()
    inside = (anchors[:, 2] < 64) & (anchors[:, 0] >= 0) & (anchors[:, 1] >= 0) & (anchors[:, 3] < 128)
    assert (ignoring[inside & (plain == -1)] == NEITHER).all()
    outputs = outputs_of(kind, len(anchors), 1)
    loss = rule.losses(outputs, anchors, [ignoring], [target], alone)
    sum(loss.values()).backward()
    assert (outputs["cls_logits"].grad[0, ignoring == NEITHER] == 0).all()
    assert (outputs["cls_logits"].grad[0, ignoring >= 0] != 0).any()


@pytest.mark.parametrize("objects", [(3, 6, 0), (0, 0, 0)], ids=str)
@each_rule
def test_the_mean_over_processes_is_the_loss_of_all_pictures(kind, rule, objects):
    """Two processes with other numbers of pictures and objects, one of them without any, or both."""
    _, anchors, levels = theirs(kind)
    targets, rule = targets_of(objects), rule(1)
    whole = outputs_of(kind, len(anchors), 3)
    wanted = losses_of(rule, whole, anchors, levels, targets)
    shares, counts = [slice(0, 2), slice(2, 3)], []

    def asked(count, least=0.0):
        counts[-1].append((count.clone(), least))
        return count

    for share in shares:
        counts.append([])
        losses_of(rule, {name: value[share] for name, value in whole.items()}, anchors, levels, targets[share], asked)
    assert len(counts[0]) == len(counts[1])  # the same collective calls
    means = [(one + other).clamp(min=least) / 2 for (one, least), (other, _) in zip(*counts, strict=True)]
    parts = []
    for share in shares:
        calls = iter(means)
        each = {name: value[share] for name, value in whole.items()}
        parts.append(losses_of(rule, each, anchors, levels, targets[share], lambda *_, calls=calls, **__: next(calls)))
    for name, value in wanted.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, value)
