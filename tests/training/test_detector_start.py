"""Warm starts of detectors: from classifiers, published backbones, and detectors for other classes."""

from functools import partial

import pytest
import torch

import switchnorm
from switchnorm.training.class_rows import ClassRows
from switchnorm.training.warm_start import warm_start
from switchnorm.weights.layout import to_published

NETWORK = "resnet18_fpn16+faster_2fc"
make = partial(switchnorm.create_model, norm="sn")


def saved(path, state):
    torch.save(state, path)
    return path


def published_backbone(state, before):
    """A classifier's entries with the names that its authors' converter gives them."""
    renamed = {}
    for key, value in to_published(state)[0].items():
        stage = int(key[5]) + 1 if key.startswith("layer") else 1
        renamed[f"{before}res{stage}.{key.partition('.')[2] if key.startswith('layer') else key}"] = value
    return renamed


@pytest.mark.parametrize("name", [NETWORK, "resnet18_c4+faster", "resnet18_fpn16+retina"])
@pytest.mark.parametrize("source", ["ours", "", "Conv_Body.", "Conv_Body.conv_body."])
def test_the_body_takes_a_classifier_whatever_its_entries_are_called(tmp_path, name, source):
    torch.manual_seed(0)
    classifier = switchnorm.create_model("resnetv1sn18").state_dict()
    body = {key: value for key, value in classifier.items() if not key.startswith("fc.")}
    state = classifier if source == "ours" else published_backbone(body, source)
    model = make(name, num_classes=3)
    report = warm_start(model, saved(tmp_path / "x.pth", state))
    found = model.state_dict()
    assert not report.unexpected
    missing = [
        key for key in report.missing if not key.endswith("num_batches_tracked")
    ]  # unknown to the published code
    assert not [key for key in missing if key.startswith(("body.", "box.layer4."))]
    last = "box.layer4" if "c4" in name else "body.layer4"
    assert torch.equal(found["body.stem.conv1.weight"], classifier["conv1.weight"])
    assert torch.equal(found[f"{last}.1.conv2.weight"], classifier["layer4.1.conv2.weight"])
    assert torch.equal(found["body.layer2.0.sn1.weight"], classifier["layer2.0.sn1.weight"])
    assert report.classifier == (("fc.weight", "fc.bias") if source == "ours" else ())


@pytest.mark.parametrize(
    ("name", "groups", "outer"),
    [
        (NETWORK, {"box.cls_score": 1, "box.bbox_pred": 4}, False),
        ("resnet18_fpn16+retina", {"head.cls_logits": 9}, True),
    ],
)
def test_rows_of_a_detector_for_other_classes_are_taken_by_name(tmp_path, name, groups, outer):
    torch.manual_seed(0)
    state = make(name, num_classes=2).state_dict()
    file = saved(tmp_path / "x.pth", {"state_dict": state, "classes": ["cat", "dog"]})
    model = make(name, num_classes=3)
    begun = {key: value.clone() for key, value in model.state_dict().items()}
    rows = ClassRows(("bird", "dog", "cat"), False, lambda count: make(name, num_classes=count))
    report = warm_start(model, file, rows=rows)
    assert "2 of 3 classes are taken over by name; 1 begins anew (bird)" in str(report)
    assert not report.shapes
    for module, count in groups.items():
        for entry in ("weight", "bias"):
            theirs, ours, before = (each[f"{module}.{entry}"] for each in (state, model.state_dict(), begun))
            background = 0 if outer else 1
            if outer:  # each anchor has its own rows of all classes
                theirs, ours, before = (
                    each.unflatten(0, (count, -1)).transpose(0, 1) for each in (theirs, ours, before)
                )
            else:
                theirs, ours, before = (each.unflatten(0, (-1, count)) for each in (theirs, ours, before))
            for here, there in ((1, 1), (2, 0)):
                assert torch.equal(ours[background + here], theirs[background + there])
            assert torch.equal(ours[background], before[background])
            assert torch.equal(ours[:background], theirs[:background])


@pytest.mark.sweep
def test_torchvisions_detector_for_coco_starts_one_of_ours_for_some_of_its_classes(tmp_path):
    torch.manual_seed(0)
    theirs = switchnorm.create_model("fasterrcnn_resnet50_fpn").state_dict()
    build = partial(switchnorm.create_model, "resnet50_fpn+faster_2fc", norms={"neck": "none"})
    model = build(num_classes=2)
    rows = ClassRows(("tv", "cell"), False, lambda count: build(num_classes=count))
    report = warm_start(model, saved(tmp_path / "x.pth", theirs), rows=rows)
    assert not report.missing
    assert not report.unexpected
    ours = model.state_dict()
    score, boxes = "box_predictor.cls_score.weight", "box_predictor.bbox_pred.weight"
    assert torch.equal(ours["box.cls_score.weight"][1], theirs[f"roi_heads.{score}"][72])
    assert torch.equal(ours["box.bbox_pred.weight"][4:8], theirs[f"roi_heads.{boxes}"][288:292])
    assert torch.equal(ours["neck.output.2.0.weight"], theirs["backbone.fpn.layer_blocks.2.0.weight"])
