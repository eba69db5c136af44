"""Resizing as OpenCV does, against what it made and against its arithmetic one pixel at a time.

records/cv2_resize.npz holds pictures and what `cv2.resize` made of them on x86-64: by the version that it names, and
by 3.4.18 and 5.0.0, which agree in every bit. It is not made again.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from switchnorm.data.preparation.plain_resize import plain_resize

RECORD = np.load(Path(__file__).parent / "records" / "cv2_resize.npz")
NAMES = [name.removesuffix(".resized") for name in RECORD.files if name.endswith(".resized")]


def neighbours(place, old, new):
    """The pixel before `place` of the new picture, and the weights of it and the next one in 1 / 2048."""
    position = np.float32((place + 0.5) * (1 / (new / old)) - 0.5)
    before = math.floor(position)
    share = np.float32(position - np.float32(before))
    return before, *(round(float(np.float32(each * np.float32(2048)))) for each in (np.float32(1) - share, share))


def pixel(picture, row, column, height, width, channel):
    """One value of the resized picture: two pixels of each of two rows."""
    old_height, old_width = picture.shape[:2]
    if (old_height, old_width) == (2 * height, 2 * width):
        return (int(picture[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel].sum()) + 2) >> 2
    left, *weights = neighbours(column, old_width, width)
    if left < 0 or left >= old_width - 1:
        weights = [2048, 0]
    columns = [min(max(left + step, 0), old_width - 1) for step in (0, 1)]
    upper, *row_weights = neighbours(row, old_height, height)
    total = 2
    for step, row_weight in enumerate(row_weights):
        line = picture[min(max(upper + step, 0), old_height - 1), :, channel]
        mixed = sum(int(line[place]) * weight for place, weight in zip(columns, weights, strict=True))
        total += (mixed >> 4) * row_weight >> 16
    return total >> 2


def reference(picture, height, width):
    values = [
        [[pixel(picture, row, column, height, width, channel) for channel in range(3)] for column in range(width)]
        for row in range(height)
    ]
    return np.array(values)


def test_the_record_has_smaller_and_larger_pictures_halves_single_pixels_and_ties():
    sizes = {(RECORD[f"{name}.pixels"].shape[:2], RECORD[f"{name}.resized"].shape[:2]) for name in NAMES}
    assert str(RECORD["version"]) == "4.10.0"
    assert len(sizes) == len(NAMES) == 15
    assert {((8, 6), (4, 3)), ((6, 8), (3, 8)), ((1, 1), (3, 5)), ((13, 11), (1, 1)), ((2, 3), (1, 2048))} <= sizes


@pytest.mark.parametrize("name", NAMES)
def test_equals_what_opencv_made_in_every_bit(name):
    expected = RECORD[f"{name}.resized"]
    found = plain_resize(RECORD[f"{name}.pixels"], expected.shape[:2])
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("old", [(1, 1), (1, 7), (9, 1), (2, 2), (6, 10), (13, 11), (40, 3)])
@pytest.mark.parametrize("new", [(1, 1), (3, 5), (6, 5), (9, 10), (17, 2), (70, 4)])
def test_equals_the_definition_one_pixel_at_a_time(old, new):
    generator = np.random.default_rng(old[0] * 100 + new[1])
    noise = generator.integers(0, 256, (*old, 3), dtype=np.uint8)
    for picture in (noise, np.where(noise < 128, 0, 255).astype(np.uint8)):
        assert np.array_equal(plain_resize(picture, new), reference(picture, *new))


def test_the_picture_at_its_own_size_is_a_copy():
    picture = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    found = plain_resize(picture, (37, 50))
    assert np.array_equal(found, picture)
    assert not np.shares_memory(found, picture)


def test_a_view_of_a_picture_is_taken():
    picture = np.random.default_rng(0).integers(0, 256, (40, 31, 3), dtype=np.uint8)
    view = picture[3:, ::-1]
    assert np.array_equal(plain_resize(view, (11, 50)), plain_resize(view.copy(), (11, 50)))
