"""Two-stage detectors against the published records: their numbers, their keys, and their names there and back."""

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.models.detection import published_eval
from switchnorm.weights import load_published, load_state
from switchnorm.weights.detectron import to_detectron, to_ours
from tests import golden
from tests.models.detection.networks import network

RECORDS = Path(__file__).parents[2] / "golden"
FASTER, MASK = "det_faster_resnet50_fpn_sn", "det_mask_resnet50_fpn_sn"
NETWORKS = {
    FASTER: ("resnet50_fpn+faster_2fc", "sn", None),
    MASK: ("resnet50_fpn+mask_4conv1fc", "sn", None),
    "det_mask_resnet50_fpn_sn_8x1": ("resnet50_fpn+mask_4conv1fc", "sn", "instance,layer"),
    "det_faster_resnet50_c4_sn": ("resnet50_c4+faster", "sn", None),
    "det_mask_resnet50_fpn_gn": ("resnet50_fpn+mask_4conv1fc", "gn", None),
}


class Record(NamedTuple):
    """A record's numbers, and the network that it is of with its weights, in evaluation mode."""

    numbers: dict[str, np.ndarray]
    model: nn.Module
    images: Tensor
    maps: dict[str, Tensor]


def keys_of(name: str) -> dict[str, tuple[list[int], str]]:
    return json.loads((RECORDS / f"{name}.keys.json").read_text())


def empty(name: str) -> nn.Module:
    """The network of a record without memory."""
    network, norm, statistics = NETWORKS[name]
    with torch.device("meta"):
        return switchnorm.create_model(network, norm=norm, statistics=statistics, boxes="published")


@pytest.fixture(scope="module", params=[FASTER, MASK])
def record(request) -> Record:
    model = empty(request.param).to_empty(device="cpu")
    for value in model.state_dict().values():
        value.fill_(0)
    load_state(model.eval(), to_ours(golden.state_dict(keys_of(request.param))), request.param)
    numbers = dict(np.load(RECORDS / f"{request.param}.npz"))
    images = golden.images(int(numbers["batch"]), int(numbers["size"]))
    with torch.no_grad():
        return Record(numbers, model, images, model.features(images))


def near(found: Tensor, expected: np.ndarray) -> None:
    wanted = torch.from_numpy(expected)
    torch.testing.assert_close(found.detach(), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


def thinned(x: Tensor, channels: int = 8) -> Tensor:
    """What a record keeps of a map."""
    return x[:, ::channels, ::2, ::2] if min(x.shape[2:]) > 16 else x[:, ::channels]


def state_kept(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_maps_proposals_and_anchors_are_the_published_ones(record):
    numbers, model, _, maps = record
    assert sum(p.numel() for p in model.parameters()) == numbers["parameters"]
    assert list(maps) == ["p2", "p3", "p4", "p5", "p6"]
    with torch.no_grad():
        outputs = model.rpn_outputs(maps)
    for (name, found), (logits, deltas) in zip(maps.items(), outputs, strict=True):
        near(thinned(found), numbers[f"eval.{name}"])
        near(thinned(logits, 1), numbers[f"rpn.logits.{name}"])
        near(thinned(deltas, 1), numbers[f"rpn.deltas.{name}"])
        assert model.anchors[name].dtype == torch.float64
        assert model.anchors[name].tolist() == numbers[f"anchors.{name}"].tolist()


@pytest.mark.parametrize("mode", ["heads_eval", "heads_train"])
def test_heads_are_the_published_ones(record, mode):
    numbers, model, _, maps = record
    rois = torch.from_numpy(numbers["rois"])
    assert (model.box.pool.levels(rois[:, 1:], 4) + 2).tolist() == numbers["roi_levels"].tolist()
    if f"{mode}.class_logits" not in numbers:
        assert not any("running_mean" in key for key in model.box.state_dict())  # then training changes nothing
        return
    before = state_kept(model)
    model.train(mode == "heads_train")
    with torch.no_grad():
        logits, deltas = model.box_outputs(maps, rois)
        features = model.box.features(model.box.pool(maps, rois))
        near(features[:, ::8], numbers[f"{mode}.box_features"])
        near(logits, numbers[f"{mode}.class_logits"])
        near(deltas, numbers[f"{mode}.box_deltas"])
        if model.mask is not None:
            near(model.mask_outputs(maps, rois)[:, ::20], numbers[f"{mode}.mask_logits"])
    model.load_state_dict(before)
    model.eval()


def test_detections_are_the_published_ones(record):
    numbers, model, images, _ = record
    with torch.no_grad():
        (found,) = model(images[:1])
        maps = model.features(images[:1])
        logits, deltas = model.box_outputs(maps, torch.from_numpy(numbers["end.rois"]))
    near(logits.softmax(1)[:, ::4], numbers["end.class_prob"])
    near(deltas[:, ::27], numbers["end.box_deltas"])
    boxes, scores, labels = (torch.from_numpy(numbers[f"end.{name}"]) for name in ("boxes", "scores", "labels"))
    alike = (found["boxes"][:, None] - boxes).abs().amax(2) < 0.1
    alike &= (found["scores"][:, None] - scores).abs() < 1e-3
    alike &= found["labels"][:, None] == labels
    assert len(found["boxes"]) == len(boxes) == 100
    assert int(alike.any(0).sum()) >= 98
    assert int(alike.any(1).sum()) >= 98
    if model.mask is not None:
        assert found["masks"].shape == (100, 1, *images.shape[2:])


def test_a_stage_that_stays_in_training_mode_gives_the_published_numbers_only_by_its_switch(record):
    numbers, model, images, maps = record
    if "published.p2" not in numbers:
        return  # this record's network was trained with nothing frozen
    before = state_kept(model)
    with torch.no_grad():
        published_eval(model)
        found = model.features(images)
        assert {m.training for m in model.body.layer1.modules()} == {True}
        assert {m.training for m in model.body.layer2.modules()} == {False}
        model.published_eval = False
        model.eval().load_state_dict(before)
        torch.testing.assert_close(model.features(images)["p2"], maps["p2"], atol=0, rtol=0)
    for name, each in found.items():
        near(thinned(each), numbers[f"published.{name}"])
    wrong = np.abs(thinned(maps["p2"]).numpy() - numbers["published.p2"]).max()
    assert wrong > 0.01 * np.abs(numbers["published.p2"]).max()


def test_the_switch_is_for_two_stage_detectors():
    with pytest.raises(InputError, match="Linear is no two-stage detector"):
        published_eval(nn.Linear(1, 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_all_published_networks_have_our_keys(name):
    keys = keys_of(name)
    published = {key: torch.empty(shape, device="meta") for key, (shape, _) in keys.items()}
    ours = {k: v for k, v in empty(name).state_dict().items() if not k.endswith("num_batches_tracked")}
    renamed = to_ours(published)
    assert renamed.keys() == ours.keys()
    assert all(renamed[key].numel() == ours[key].numel() for key in ours)
    assert {key: value.numel() for key, value in to_detectron(ours).items()} == {
        key: value.numel() for key, value in published.items()
    }


@pytest.mark.parametrize("name", ["resnet18_fpn16+mask_4conv1fc", "resnet18_c4+faster"])
@pytest.mark.parametrize("norm", ["sn", "gn:4"])
def test_files_of_detectors_are_loaded_strictly_by_their_authors_names(name, norm, tmp_path):
    model, other = (network(name, norm, boxes="published") for _ in range(2))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.rand(value.shape) if value.is_floating_point() else value)
    state = to_detectron(model.state_dict())
    file = tmp_path / "model_step.pth"
    torch.save({"step": 3, "train_size": 8, "batch_size": 2, "model": state, "optimizer": {}}, file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_published(other, file) is other
    for (key, found), wanted in zip(other.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(found, wanted), key
    with pytest.warns(UserWarning, match="was trained with boxes 'published', and this network has 'torchvision'"):
        load_published(network(name, norm), file)
    dropped = next(key for key in state if key.startswith("RPN"))
    torch.save({"model": {key: value for key, value in state.items() if key != dropped}}, file)
    with pytest.raises(InputError, match=r"1 missing \(rpn\.head"):
        load_published(other, file)
