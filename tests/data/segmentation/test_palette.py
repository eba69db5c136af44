import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from switchnorm.data.segmentation.palette import distinct_colors, mask_image, overlay, written_mask
from switchnorm.errors import InputError
from tests.data.photos import photo

LABELS = np.array([[0, 1, 2], [10, IGNORED, 3]], np.uint8)


def saved(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Image.open(buffer)


@pytest.mark.parametrize("count", [1, 2, 11, 150, 255])
def test_generated_colours_are_distinct_and_the_same_for_any_count(count):
    colors = distinct_colors(count)
    assert (colors.shape, colors.dtype) == ((count, 3), np.uint8)
    distances = np.abs(colors[:, None].astype(int) - colors[None]).max(-1) + 255 * np.eye(count, dtype=int)
    assert distances.min() >= (120 if count <= 11 else 42)
    assert (colors.max(1).min() > 0) & (colors.min(1).max() < 255)
    assert np.array_equal(distinct_colors(255)[:count], colors)


@pytest.mark.parametrize("labels", [LABELS, torch.from_numpy(LABELS)])
def test_a_mask_is_written_as_its_labels_in_their_colours(labels):
    palette = create_dataset("camvid", root="nowhere").palette
    image = saved(mask_image(labels, palette))
    assert image.mode == "P"
    assert np.array_equal(np.array(image), LABELS)
    shown = np.array(image.convert("RGBA"))
    counted = LABELS != IGNORED
    assert np.array_equal(shown[counted][:, :3], palette[LABELS[counted]])
    assert (shown[counted][:, 3] == 255).all()
    assert shown[~counted].tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "options", "first", "last", "void"),
    [
        ("ade20k", {}, 1, 11, 0),
        ("camvid", {}, 0, 10, 11),
        ("cityscapes", {}, 7, 23, 0),
        ("cityscapes", {"masks": "labelTrainIds"}, 0, 10, 255),
    ],
)
def test_predictions_are_written_in_the_numbers_of_the_datasets_own_masks(name, options, first, last, void):
    data = create_dataset(name, root="nowhere", **options)
    image = saved(written_mask(torch.from_numpy(LABELS), data.numbering, data.palette))
    numbers = np.array(image)
    assert (numbers[0, 0], numbers[1, 0], numbers[1, 1]) == (first, last, void)
    assert np.array_equal(numbers, data.numbering.written(LABELS))
    assert np.array_equal(np.array(image.convert("RGB"))[1, 0], data.palette[10])


def test_void_is_written_in_a_number_that_is_no_class_and_transparent():
    options = {"values": {0: "a", 255: "b"}}
    data = create_dataset("masks", root="nowhere", **options)
    labels = np.array([[0, 1, IGNORED]], np.uint8)
    image = saved(written_mask(labels, data.numbering, data.palette))
    assert np.array(image).tolist() == [[0, 255, 254]]
    assert np.array(image.convert("RGBA"))[0, :, 3].tolist() == [255, 255, 0]
    wide = create_dataset("masks", root="nowhere", values={0: "a", 300: "b", 4000: None})
    assert np.array(saved(written_mask(labels, wide.numbering, wide.palette))).tolist() == [[0, 300, 4000]]


def test_official_colours():
    city, camvid = (create_dataset(name, root="nowhere") for name in ("cityscapes", "camvid"))
    colors = dict(zip(city.classes, city.palette.tolist(), strict=True))
    assert (len(colors), colors["road"], colors["bicycle"]) == (19, [128, 64, 128], [119, 11, 32])
    assert camvid.palette[list(camvid.classes).index("car")].tolist() == [64, 0, 128]
    for data in (city, camvid):
        assert (data.palette.shape, data.palette.dtype) == ((data.num_classes, 3), np.uint8)
        assert len(np.unique(data.palette, axis=0)) == data.num_classes


def test_ade20ks_colours_are_those_of_color150():
    data = create_dataset("ade20k", root="nowhere")
    colors = data.palette
    assert (colors.shape, colors.dtype) == ((150, 3), np.uint8)
    assert colors[:5].tolist() == [[120, 120, 120], [180, 120, 120], [6, 230, 230], [80, 50, 50], [4, 200, 3]]
    assert colors[-2:].tolist() == [[102, 255, 0], [92, 0, 255]]
    assert zlib.crc32(colors.tobytes()) == 3620555175  # of the 450 bytes in that file
    by_name = dict(zip(data.classes, colors.tolist(), strict=True))
    assert by_name["road"] == by_name["skyscraper"] == [140, 140, 140]
    assert len(np.unique(colors, axis=0)) == 149


def test_an_overlay_shows_the_picture_where_nothing_counts():
    picture, palette = photo(0, 3, 2), distinct_colors(11)
    shown, pixels = np.array(overlay(picture, torch.from_numpy(LABELS), palette)), np.array(picture)
    counted = LABELS != IGNORED
    assert np.array_equal(shown[~counted], pixels[~counted])
    assert np.abs(shown[counted] - (pixels[counted] / 2 + palette[LABELS[counted]] / 2)).max() <= 0.5
    with pytest.raises(InputError, match="labels of 2x3 pixels do not lie over a picture of 3x2"):
        overlay(picture, LABELS.T, palette)
