"""Detections in the network's picture as detections in the original."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco_masks
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from switchnorm.data.detection import DetectionScene
from switchnorm.tasks.detection.found import in_original


def scene(shown: tuple[int, int], size: tuple[int, int]) -> DetectionScene:
    return DetectionScene(0, torch.zeros(3, *shown), size, None)


def detections(shown: tuple[int, int], count: int, side: int = 28) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    limit = torch.tensor([shown[1], shown[0]]).repeat(2)
    corners = torch.rand(2, count, 2, generator=draw).sort(0).values
    return {
        "boxes": torch.cat([corners[0], corners[1]], 1) * limit,
        "labels": torch.randint(1, 4, (count,), generator=draw),
        "scores": torch.rand(count, generator=draw),
        "masks": torch.rand(count, 1, side, side, generator=draw),
    }


@pytest.mark.parametrize("shown", [(96, 128), (30, 40), (75, 61)])
@pytest.mark.parametrize("size", [(96, 128), (240, 320), (61, 50)])
def test_boxes_and_masks_are_torchvisions_in_the_original(shown: tuple[int, int], size: tuple[int, int]) -> None:
    given = detections(shown, 9)
    found = in_original(scene(shown, size), given)
    (wanted,) = GeneralizedRCNNTransform(1, 1, [0.0], [1.0]).eval().postprocess([dict(given)], [shown], [size])
    np.testing.assert_allclose(found.boxes, wanted["boxes"].numpy(), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found.labels, given["labels"].numpy())
    np.testing.assert_array_equal(found.scores, given["scores"].numpy())
    assert found.masks is not None
    different = 0
    for mask, pasted in zip(found.masks, wanted["masks"], strict=True):
        assert mask["size"] == list(size)
        different += int((coco_masks.decode(mask).astype(bool) != (pasted[0] > 0.5).numpy()).sum())
    # A corner that is rounded to the other side moves a row of pixels.
    assert different <= max(size)


def test_boxes_are_clipped_to_the_picture() -> None:
    boxes = torch.tensor([[-5.0, -7.0, 300.0, 200.0], [10.0, 10.0, 20.0, 20.0]])
    given = {"boxes": boxes, "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.9, 0.8])}
    found = in_original(scene((96, 128), (48, 64)), given)
    np.testing.assert_array_equal(found.boxes, [[0, 0, 64, 48], [5, 5, 10, 10]])
    assert found.masks is None


def test_what_is_not_finite_is_left_out_and_counted() -> None:
    given = detections((50, 60), 5)
    given["boxes"][1, 2] = torch.nan
    given["scores"][3] = torch.inf
    found = in_original(scene((50, 60), (50, 60)), given)
    assert found.dropped == 2
    np.testing.assert_array_equal(found.labels, given["labels"][[0, 2, 4]])
    assert found.masks is not None
    assert len(found.masks) == 3


def test_a_picture_on_which_nothing_is_found() -> None:
    found = in_original(scene((50, 60), (100, 120)), detections((50, 60), 0))
    assert (found.boxes.shape, found.labels.shape, found.scores.shape, found.masks) == ((0, 4), (0,), (0,), ())


def test_masks_of_any_number_take_the_memory_of_one() -> None:
    """Pasted together, 100 masks of this picture are 480 MB of float32."""
    import resource

    given = detections((100, 120), 100)
    in_original(scene((100, 120), (100, 120)), given)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = in_original(scene((100, 120), (1000, 1200)), given)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert found.masks is not None
    assert grown < 120


def test_half_precision_becomes_float32() -> None:
    given = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in detections((50, 60), 3).items()
    }
    found = in_original(scene((50, 60), (100, 120)), given)
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
