import numpy as np
import pytest
import tifffile
from PIL import Image

from switchnorm.data.files import pixel_range
from switchnorm.data.files.listing import Paths
from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.files.pixel_range import Extent, find_range
from switchnorm.errors import InputError
from tests.data.files.pictures import numbers


def found(folder, *arrays, bands=None, kind="tif"):
    names = [f"{place}.{kind}" for place in range(len(arrays))]
    for name, array in zip(names, arrays, strict=True):
        if kind == "tif":
            tifffile.imwrite(folder / name, array, photometric="minisblack")
        else:
            Image.fromarray(array).save(folder / name)
    return find_range(Paths(folder, names), bands)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [
        (np.uint16, 3, 900, (0, 1023)),
        (np.uint16, 0, 4095, (0, 4095)),
        (np.uint16, 12, 3071, (0, 4095)),
        (np.uint16, 0, 9000, (0, 16383)),
        (np.uint16, 0, 20000, (0, 65535)),
        (np.uint16, 0, 100, (0, 255)),
        (np.int16, -1024, 3071, (-1024, 3071)),
        (np.int32, 0, 100_000, (0, 2**24 - 1)),
        (np.uint32, 0, 2**32 - 1, (0, 2**32 - 1)),
        (np.float32, 0.0, 0.75, (0, 1)),
        (np.float32, 0.0, 0.25, (0, 0.25)),
        (np.float32, 271.5, 309.25, (271.5, 309.25)),
        (np.float64, 4.0, 4.0, (4, 5)),
    ],
)
def test_the_range_is_the_depth_of_whole_numbers_and_the_extent_of_others(dtype, low, high, expected, tmp_path):
    assert found(tmp_path, numbers((5, 8), low, high, dtype)) == expected


def test_pictures_of_8_bits_have_none_and_say_nothing_about_others(tmp_path):
    assert found(tmp_path, numbers((5, 8, 3)), numbers((5, 8)), kind="png") is None
    assert found(tmp_path, numbers((5, 8)), numbers((5, 8), high=4000, dtype=np.uint16), kind="png") == (0, 4095)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [(np.float32, 0.0, 0.75, (0, 1)), (np.float32, -0.5, 0.75, (-0.5, 0.75)), (np.uint16, 0, 255, (0, 255))],
)
def test_a_range_beside_pictures_of_8_bits_leaves_these_as_they_are(dtype, low, high, expected, tmp_path):
    for photo in (numbers((5, 8)), numbers((5, 8, 3))):
        assert found(tmp_path, photo, numbers((5, 8), low, high, dtype)) == expected
        assert not Pixels(range=expected).stretches_bytes


@pytest.mark.parametrize("beside", ["0.jpg", "0.png"])
def test_fractions_that_are_no_share_of_white_beside_pictures_of_8_bits_are_refused(beside, tmp_path):
    Image.fromarray(numbers((5, 8, 3))).save(tmp_path / beside)
    tifffile.imwrite(tmp_path / "1.tif", numbers((5, 8), 3.5, 240.0, np.float32))
    with pytest.raises(
        InputError, match=r"some .* have 8 bits, and others fractions from 3.5 to 240; say with data.range"
    ):
        find_range(Paths(tmp_path, [beside, "1.tif"]), None)


def test_damage_and_numbers_that_are_not_finite_count_for_nothing(tmp_path):
    values = numbers((5, 8), 2.0, 6.0, np.float32)
    values[2, 2] = np.nan
    (tmp_path / "9.tif").write_bytes(b"II*\0rubbish")
    tifffile.imwrite(tmp_path / "0.tif", values)
    assert find_range(Paths(tmp_path, ["0.tif", "9.tif", "missing.tif"]), None) == (2, 6)


def test_only_the_bands_that_are_shown_count(tmp_path):
    values = np.stack([numbers((5, 8), high=high, dtype=np.uint16) for high in (60000, 900, 4000)])
    assert found(tmp_path, values, bands=[1, 2]) == (0, 4095)


def test_a_sample_is_spread_over_all_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_range, "SAMPLE", 3)
    looked_at = []
    monkeypatch.setattr(
        pixel_range, "_extent", lambda path, bands: looked_at.append(path[-6:-4]) or Extent(0, 900, True)
    )
    names = [f"{place:02d}.png" for place in range(12)] + ["12.jpg"]
    assert find_range(Paths(tmp_path, names), None) == (0, 1023)
    assert looked_at == ["00", "04", "08"]
