"""Encoder and decoder are shown apart, where a network has both."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchnorm.report.importance.network_parts import network_parts, part_of
from switchnorm.runs.run import load_run
from tests.report.conftest import EPOCHS, Make
from tests.report.visits import markup

LAYERS = ["encoder.sn1", "encoder.layer1.0.sn1", "encoder.layer2.0.sn1", "decoder.cbr.1", "decoder.cbr_deepsup.1"]


def test_encoder_and_decoder_are_looked_at_apart(make_run: Make, tmp_path: Path) -> None:
    path = make_run("sn", task="segmentation", layers=LAYERS)
    found = network_parts(load_run(path))
    assert {title: [layer.layer for layer in epochs[EPOCHS]] for title, epochs in found.items()} == {
        "Encoder": LAYERS[:3], "Decoder": LAYERS[3:],
    }  # fmt: skip
    assert all(list(epochs) == list(range(1, EPOCHS + 1)) for epochs in found.values())
    text = markup(tmp_path, path)
    assert [text.count(f"<h4>{title}</h4>") for title in found] == [1, 1]


@pytest.mark.parametrize("layers", [["encoder.sn1"], ["encoder.sn1", "head.sn"], ["backbone.a", "classifier.1"]])
def test_only_networks_of_two_parts_are_taken_apart(make_run: Make, layers: list[str]) -> None:
    path = make_run("sn", task="segmentation", layers=LAYERS)
    text = (path / "importance.csv").read_text()
    for old, new in zip(LAYERS, [*layers, *(f"{layers[-1]}.{place}" for place in range(5))], strict=False):
        text = text.replace(old, new)
    (path / "importance.csv").write_text(text)
    assert list(network_parts(load_run(path))) == (["Encoder", "Decoder"] if "classifier.1" in layers else [""])


def test_classification_is_not_taken_apart(make_run: Make) -> None:
    assert list(network_parts(load_run(make_run("sn", layers=LAYERS)))) == [""]


OURS = ["body.stem.sn1", "body.layer1.0.sn1", "neck.lateral.0.1", "box.convs.1", "mask.convs.1"]
TORCHVISIONS = [
    "backbone.body.bn1",
    "backbone.body.layer1.0.bn1",
    "backbone.fpn.inner_blocks.0.1",
    "roi_heads.box_head.0.1",
    "roi_heads.mask_head.0.1",
]


@pytest.mark.parametrize("layers", [OURS, TORCHVISIONS], ids=["ours", "torchvision's"])
def test_parts_of_detectors_are_looked_at_apart(make_run: Make, layers: list[str]) -> None:
    """Those that a network has, by the longest beginning of layers' names."""
    settings = {"data.name": "coco", "model.name": "resnet18_fpn16+mask_4conv1fc"}
    found = network_parts(load_run(make_run("sn", task="detection", layers=layers, settings=settings)))
    assert {title: [layer.layer for layer in epochs[EPOCHS]] for title, epochs in found.items()} == {
        "Body": layers[:2], "Neck": layers[2:3], "Box head": layers[3:4], "Mask head": layers[4:],
    }  # fmt: skip
    less = make_run("sn", task="detection", layers=layers[:3], settings=settings, folder="less")
    assert list(network_parts(load_run(less))) == ["Body", "Neck"]


def test_the_longest_beginning_of_whole_words_decides() -> None:
    titles = {"backbone": "Body", "backbone.fpn": "Neck", "head": "Head"}
    for layer, title in (("backbone.fpn.0", "Neck"), ("backbone.fpns.0", "Body"), ("head", "Head"), ("heads.0", "")):
        assert part_of(layer, titles) == title
