"""Pictures by which the scales of 8-bit numbers are chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data.preparation import Crop, Preparation
from switchnorm.deploy.calibration import calibration
from switchnorm.deploy.description import Description
from switchnorm.errors import InputError

ABOUT = Description(preparation=Preparation(Crop(8, 8), (127.5,) * 3, (60.0,) * 3), size=(8, 8))


def test_what_of_a_folder_is_left_out_is_said(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (12, 9)).save(tmp_path / name)
    (tmp_path / "notes.csv").write_text("x")
    notes: list[str] = []
    images = calibration(str(tmp_path), ABOUT, notes)
    assert [(image.shape, image.dtype) for image in images] == [((1, 3, 8, 8), np.uint8)] * 2
    (note,) = notes
    assert "leaves out" in note
    assert "notes.csv" in note


@pytest.mark.parametrize("make", [torch.zeros, np.zeros], ids=["tensors", "arrays"])
def test_batches_are_taken_apart_whoever_holds_them(make):
    raw = Description(raw=True)
    assert len(calibration([make((2, 3, 8, 8)), make((3, 8, 8))], raw, [])) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "int8: no pictures were given"), ("nowhere", "int8: picture 'nowhere' is missing"), ([3], "int8: picture 0")],
)
def test_what_is_no_picture_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        calibration(given, ABOUT, [])
