"""Files of detectors: recognised, converted both ways, and what their layers chose."""

import json
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch

import switchnorm
from switchnorm.weights import convert, file_importance, load_published, published
from switchnorm.weights.detectron import to_detectron
from switchnorm.weights.layout import to_published
from switchnorm.weights.recognise import options_of, recognise

MIXED = {"body": "bn", "neck": "sn", "head": "none"}
NAMES = [
    ("resnet50_fpn+faster_2fc", {"norm": "sn"}, {}),
    ("resnet18_fpn16+faster_4conv1fc", {"norm": "sn", "box_channels": 32}, {}),
    ("l_resnext50_fpn+mask_4conv1fc", {"norm": "gn+ws"}, {}),
    ("resnet50_c4+faster", {"norm": "bn"}, {}),
    ("resnet18_fpn16+retina", {"norms": MIXED}, MIXED),
    ("resnet18_fpn+fcos", {"norm": "sn"}, {}),
    ("retinanet_resnet50_fpn_v2", {}, {}),
]


@pytest.mark.parametrize(("name", "options", "norms"), NAMES, ids=lambda value: str(value)[:40])
def test_keys_and_shapes_tell_the_network(name, options, norms):
    with torch.device("meta"):
        state = switchnorm.create_model(name, num_classes=7, **options).state_dict()
    found = recognise(state)
    assert (found.network, found.num_classes, found.norms) == (name, 7, norms)
    assert options_of(state) == {key: value for key, value in options.items() if key == "box_channels"}


def published_file(path, name="resnet18_fpn16+mask_4conv1fc", statistics=None, num_classes=2):
    """A file as the published code writes it, of a smaller network."""
    torch.manual_seed(0)
    model = switchnorm.create_model(name, norm="sn", num_classes=num_classes, box_channels=16, statistics=statistics)
    ours = {key: torch.rand_like(value) for key, value in model.state_dict().items() if value.is_floating_point()}
    state = OrderedDict(to_detectron(to_published(ours)[0]))
    assert all(key.startswith(("Conv_Body.", "RPN.", "Box_", "Mask_")) for key in state)
    torch.save({"step": 1, "model": state, "optimizer": {}}, path, _use_new_zipfile_serialization=False)
    return state, model


@pytest.mark.parametrize("statistics", [None, "instance,layer"])
def test_a_published_file_becomes_ours_and_again_what_it_was(tmp_path, statistics):
    state, model = published_file(tmp_path / "x.pth", statistics=statistics)
    card = convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert (card.network, card.num_classes) == ("resnet18_fpn16+mask_4conv1fc", 2)
    assert card.options == {"box_channels": 16}
    assert card.dropped[:2] == ("step", "optimizer")
    convert(tmp_path / "x.safetensors", tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth")
    assert list(again) == ["model"]
    assert list(again["model"]) == list(state)
    for key, value in state.items():
        assert again["model"][key].shape == value.shape
        assert torch.equal(again["model"][key], value)
    by_each = [load_published(model, tmp_path / file).state_dict() for file in ("x.pth", "x.safetensors")]
    assert all(torch.equal(by_each[0][key], by_each[1][key]) for key in by_each[0])
    layers = [layer.layer for layer in file_importance(tmp_path / "x.pth")]
    assert layers == [layer.layer for layer in file_importance(tmp_path / "again.pth")]
    assert (layers[0], layers[-1]) == ("body.stem.sn1", "mask.convs.10")


def test_weights_of_a_run_are_written_with_the_published_names(tmp_path):
    model = switchnorm.create_model("resnet18_fpn16+faster_2fc", norm="gn", num_classes=2, box_channels=16)
    torch.save({"state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "x.pt")
    convert(tmp_path / "x.pt", tmp_path / "out.pth")
    written = torch.load(tmp_path / "out.pth")["model"]
    assert "Conv_Body.conv_body.res2.0.gn1.weight" in written
    assert len(written) == len(model.state_dict())


def test_the_card_of_a_published_detector_says_what_is_claimed_and_how_it_computes(tmp_path, monkeypatch):
    from switchnorm.weights import identity
    from tests.weights.small import TABLE

    known = replace(published("mask_resnet50_fpn_sn_8x1"), network="resnet18_fpn16+mask_4conv1fc", file="small.pth")
    for module in (identity, TABLE):
        monkeypatch.setattr(module, "PUBLISHED", (known,))
    published_file(tmp_path / "small.pth", statistics="instance,layer")
    convert(tmp_path / "small.pth", tmp_path / "x.safetensors")
    card = json.loads((tmp_path / "x.json").read_text())
    assert (card["box_ap"], card["mask_ap"], card["top1"]) == (0.4101, 0.3612, None)
    assert card["options"] == {"box_channels": 16, "boxes": "published", "box_beta": 1.0}
    again = convert(tmp_path / "x.safetensors", tmp_path / "y.pth")
    assert (again.name, again.box_ap, again.mask_ap) == (known.name, 0.4101, 0.3612)


def test_of_two_that_keys_do_not_tell_apart_both_are_named():
    """torchvision's fasterrcnn_mobilenet_v3_large_320_fpn is the other one for small pictures."""
    plain, small = "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"
    with torch.device("meta"):
        state = switchnorm.create_model(plain, num_classes=3).state_dict()
    found = recognise(state)
    assert (found.network, found.alike, found.num_classes) == (plain, (small,), 3)
    assert recognise(state, [small]).alike == (plain,)
