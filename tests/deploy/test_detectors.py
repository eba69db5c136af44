"""Detectors in files: whole, with suppression inside, for pictures of any size; and when detections are the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from switchnorm import InputError
from switchnorm.deploy.adapters import task_of
from switchnorm.deploy.detectors import apart
from switchnorm.deploy.exporting import export
from switchnorm.deploy.formats import format_of
from tests.models.detection.networks import network
from tests.models.detection.test_one_picture import FOREIGN, OURS, detector

SIDES = ("height", "width")


def detections(count: int = 20) -> dict[str, np.ndarray]:
    """Of boxes in a row, which do not overlap."""
    left = 30.0 * np.arange(count, dtype=np.float32)
    return {
        "boxes": np.stack([left, 0 * left + 5, left + 20, 0 * left + 30], 1),
        "labels": np.arange(count) % 3 + 1,
        "scores": np.linspace(0.9, 0.2, count, dtype=np.float32),
        "masks": np.random.default_rng(0).random((count, 28, 28), dtype=np.float32),
    }


def only(found: dict[str, np.ndarray], places: Any) -> dict[str, np.ndarray]:
    return {name: value[places] for name, value in found.items()}


def changed(name: str, place: Any, by: float) -> dict[str, np.ndarray]:
    found = detections()
    found[name] = found[name].copy()
    found[name][place] += by
    return found


def test_the_order_of_detections_does_not_matter() -> None:
    assert apart(only(detections(), slice(None, None, -1)), detections()) == 0


def test_differences_of_pairs_are_found() -> None:
    assert apart(changed("scores", 3, 0.01), detections()) == pytest.approx(0.01, rel=1e-4)
    assert apart(changed("masks", (3, 0, 0), 0.25), detections()) == pytest.approx(0.25, rel=1e-4)
    assert apart(changed("boxes", (3, 0), 0.5), detections()) == pytest.approx(0.5 / 590, rel=1e-4)
    assert apart(changed("boxes", (slice(None), 0), 2.0), detections()) == pytest.approx(2 / 590, rel=1e-4)


@pytest.mark.parametrize(
    "found",
    [
        only(detections(), slice(1, None)),
        only(detections(), [0] * 20),
        changed("labels", 0, 1),
        changed("boxes", slice(None), 15.0),
        changed("boxes", (slice(0, 5), 0), 2.0),
        only(detections(), slice(0, 0)),
        {name: value for name, value in detections().items() if name != "masks"},
        {**detections(), "masks": np.zeros((20, 14, 14), np.float32)},
    ],
    ids=["missing", "twice", "class", "moved", "some moved", "none", "without masks", "other masks"],
)
def test_other_detections_are_infinitely_far(found: dict[str, np.ndarray]) -> None:
    assert apart(found, detections()) == math.inf


def test_what_rounding_decides_is_explained() -> None:
    # Suppression may keep the other one of two boxes in a place.
    assert apart(changed("boxes", (3, 0), 2.0), detections()) == 0
    # The lowest score may fall on either side of the threshold, and one of two alike may suppress the other.
    assert apart(only(detections(), slice(None, -1)), detections()) == 0
    both = detections()
    both["boxes"] = both["boxes"].copy()
    both["boxes"][5] = both["boxes"][2] + np.array([0, 0, 0, 9.0], np.float32)
    both["labels"] = np.where(np.arange(20) == 5, both["labels"][2], both["labels"])
    assert apart(only(both, np.arange(20) != 5), both) == 0


def test_boxes_without_an_area_have_partners() -> None:
    flat = detections()
    flat["boxes"] = flat["boxes"] * np.array([1, 0, 1, 0], np.float32)
    assert apart(flat, flat) == 0


def test_nothing_is_like_nothing() -> None:
    assert apart(detections(0), detections(0)) == 0


def check_file(path: Path, model: Any, sizes: tuple[tuple[int, int], ...]) -> None:
    runtime = format_of(path).open(path)
    assert runtime.description.task == "detection"
    for size in sizes:
        picture = torch.randn(1, 3, *size)
        with torch.no_grad():
            (expected,) = model([picture[0]])
        found = runtime(picture.numpy())
        wanted = {name: value.numpy() for name, value in expected.items()}
        if "masks" in wanted:
            wanted["masks"] = wanted["masks"][:, 0]
        assert len(wanted["boxes"])
        assert apart(found, wanted) < 1e-4


def test_a_detector_in_onnx_finds_the_same_on_pictures_of_any_size(tmp_path: Path) -> None:
    model = detector("resnet18_fpn16+fcos")
    done = export(model, tmp_path / "net.onnx", dynamic=SIDES, warn=False)
    assert done.outputs == ("boxes", "labels", "scores")
    check_file(done.path, model, ((33, 30), (96, 150)))


@pytest.mark.sweep
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2", ".torchscript"])
@pytest.mark.parametrize("name", [*OURS, *FOREIGN])
def test_every_detector_in_every_format(tmp_path: Path, name: str, suffix: str) -> None:
    model = detector(name)
    done = export(model, tmp_path / f"net{suffix}", dynamic=SIDES, warn=False)
    side = max(160, model.one_picture().smallest)
    check_file(done.path, model, ((side + 33, side), (side, side + 70)))


@pytest.mark.sweep
@pytest.mark.parametrize("norm", ["sn", "ssn", "gn+ws", "in", "ln", "ibn", "bcn"])
def test_every_normalizer_in_all_parts(tmp_path: Path, norm: str) -> None:
    model = detector("resnet18_fpn16+mask_4conv1fc", norm=norm)
    done = export(model, tmp_path / "net.onnx", dynamic=SIDES, warn=False)
    check_file(done.path, model, ((70, 97),))


def test_one_picture_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one picture at a time"):
        export(network("resnet18_fpn16+faster_2fc"), tmp_path / "net.torchscript", dynamic=("batch",))
    assert not list(tmp_path.iterdir())


def test_what_holds_no_detections_is_refused_with_what_does(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"format 'executorch' .* choose from onnx, openvino, pt2, .*torchscript"):
        export(network("resnet18_fpn16+faster_2fc"), tmp_path / "net.pte")
    with pytest.raises(InputError, match="8 bits hold no coordinates"):
        export(network("resnet18_fpn16+faster_2fc"), tmp_path / "net.onnx", int8=[np.zeros((3, 64, 64), np.float32)])
    assert not list(tmp_path.iterdir())


def test_a_detector_is_known_without_a_description() -> None:
    assert task_of(network("resnet18_fpn16+faster_2fc")) == "detection"
    assert task_of(torch.nn.Conv2d(3, 3, 1)) == "raw"
