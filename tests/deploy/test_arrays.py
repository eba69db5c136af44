"""What becomes of outputs in numpy is what torch and torchvision make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from switchnorm.deploy import arrays
from switchnorm.tasks.segmentation.prediction import probabilities

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("size", "target"), [((1, 1), (5, 3)), ((7, 4), (7, 4)), ((5, 9), (33, 31)), ((40, 3), (7, 2))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_resized_as_torch_resizes_them(size, target, dtype):
    values = RNG.normal(size=(3, *size)).astype(dtype)
    expected = F.interpolate(torch.from_numpy(values)[None], target, mode="bilinear", align_corners=False)[0].numpy()
    found = arrays.resized(values, target)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype is np.float32 else 1e-12)  # places have float32


@pytest.mark.parametrize("size", [(1, 1), (13, 50), (70, 33)])
@pytest.mark.parametrize("elements", [1, 2**20])
def test_probabilities_are_those_of_evaluation(size, elements, monkeypatch):
    """In bands of any height."""
    monkeypatch.setattr(arrays, "_ELEMENTS", elements)
    logits = [(4 * RNG.normal(size=(6, *shape))).astype(np.float32) for shape in ((4, 9), (11, 3), (1, 1))]
    expected = torch.cat([shares for _, shares in probabilities([torch.from_numpy(each) for each in logits], size)], 1)
    found = list(arrays.probabilities(logits, size))
    assert [rows.start for rows, _ in found] == [0, *(rows.stop for rows, _ in found[:-1])]
    np.testing.assert_allclose(np.concatenate([shares for _, shares in found], 1), expected.numpy(), atol=1e-6)
    assert np.array_equal(arrays.labels_of(logits, size), expected.argmax(0).numpy())


def test_half_precision_is_not_added_up():
    shares = arrays.softmax(arrays.precise(np.full((1000, 1), 3, np.float16)))
    np.testing.assert_allclose(shares, 1e-3, rtol=1e-6)


@pytest.mark.parametrize("side", [28, 14, 1])
def test_masks_are_pasted_as_torchvision_pastes_them(side):
    size = (40, 61)
    low = RNG.uniform(-10, 50, (40, 2))
    boxes = np.concatenate([low, low + RNG.uniform(0, 40, (40, 2))], 1).clip(0, [61, 40, 61, 40]).astype(np.float32)
    boxes[0] = [0, 0, 61, 40]
    boxes[1] = [3, 3, 3, 3]
    shares = RNG.uniform(size=(40, side, side)).astype(np.float32)
    expected = paste_masks_in_image(torch.from_numpy(shares)[:, None], torch.from_numpy(boxes), size)[:, 0] > 0.5
    for place in range(40):
        assert np.array_equal(arrays.pasted(shares[place], boxes[place], size), expected[place].numpy())
