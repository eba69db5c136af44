"""What is seen of a picture's file."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from switchnorm.data.files.picture_facts import PictureItem, look_at_picture
from switchnorm.data.files.picture_file import Pixels
from tests.data.files.pictures import numbers, stored, write_netpbm, write_png16
from tests.data.photos import photo, truncate, write_photo


def seen(path, label=1, skips=False):
    return look_at_picture(PictureItem(str(path), label), Pixels(), skips)


def test_the_header_and_the_values_that_training_reads(tmp_path):
    write_photo(tmp_path / "a.jpg", 3, width=30, height=24)
    facts = seen(tmp_path / "a.jpg")
    assert (facts.format, facts.mode, facts.bits, facts.size) == ("JPEG", "RGB", 8, (24, 30))
    assert (facts.orientation, facts.counts, facts.remarks, facts.pixels) == (1, {1: 1}, [], 24 * 30)
    values = np.asarray(Image.open(tmp_path / "a.jpg"), np.int64).reshape(-1, 3)
    assert facts.sums == tuple(values.sum(0))
    assert facts.squares == tuple((values**2).sum(0))


def test_equal_content_has_equal_digests_whatever_it_is_called(tmp_path):
    for name, number in (("a.jpg", 3), ("b.jpg", 3), ("c.jpg", 4)):
        write_photo(tmp_path / name, number)
    one, same, other = (seen(tmp_path / f"{name}.jpg").digest for name in "abc")
    assert one == same != other
    assert 0 <= one < 2**63


@pytest.mark.parametrize(
    ("picture", "options", "mode", "bits"),
    [
        (photo(1).convert("L"), {}, "L", 8),
        (photo(1).convert("RGBA"), {}, "RGBA", 8),
        (photo(1).convert("1"), {}, "1", 1),
        (photo(1).quantize(4), {"bits": 2}, "P", 2),
        (Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 6), {}, "I;16", 16),
    ],
)
def test_modes_and_bits(tmp_path, picture, options, mode, bits):
    picture.save(tmp_path / "a.png", **options)
    facts = seen(tmp_path / "a.png")
    assert (facts.mode, facts.bits) == (mode, bits)
    assert facts.range == ((0, 3594) if bits == 16 else None)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "mode", "bits"),
    [
        ("a.png", (20, 30, 3), np.uint16, "RGB", 16),
        ("a.png", (20, 30, 2), np.uint16, "2 bands", 16),
        ("a.tif", (20, 30, 6), np.uint16, "6 bands", 16),
        ("a.tif", (20, 30, 5), np.uint8, "5 bands", 8),
        ("a.tif", (20, 30, 3), np.float32, "3 bands", 32),
    ],
)
def test_what_pillow_gives_in_part_is_counted_as_a_whole(tmp_path, capfd, name, shape, dtype, mode, bits):
    values = numbers(shape, 3, 200, dtype)
    if name.endswith("png"):
        write_png16(tmp_path / name, values)
    else:
        tifffile.imwrite(tmp_path / name, values, photometric="minisblack", planarconfig="contig")
    facts = seen(tmp_path / name)
    assert capfd.readouterr().err == ""
    assert (facts.mode, facts.bits, facts.format) == (mode, bits, "PNG" if name == "a.png" else "TIFF")
    assert facts.range == (None if bits == 8 else (3, 200))


@pytest.mark.parametrize("greatest", [4095, 65535])
@pytest.mark.parametrize("bands", [1, 3])
def test_bits_and_numbers_of_a_deep_pnm(tmp_path, bands, greatest):
    values = numbers((20, 30, bands), 3, 200, np.uint16)
    write_netpbm(tmp_path / "a.ppm", values[..., 0] if bands == 1 else values, greatest)
    facts = seen(tmp_path / "a.ppm")
    assert (facts.bits, facts.range, facts.format) == (16, (3, 200), "PPM")


@pytest.mark.parametrize("count", [4, 6])
def test_how_a_picture_of_deep_bands_lies(tmp_path, count):
    values = stored(numbers((20, 30, count), 3, 200, np.float32), 6)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extratags": [(274, "H", 1, 6, True)]}
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    facts = look_at_picture(PictureItem(str(tmp_path / "a.tif"), 0), Pixels(tuple(range(count)), (3, 200)), False)
    assert (facts.orientation, facts.size, facts.bits) == (6, (20, 30), 32)


def test_what_exif_says_of_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(1).save(tmp_path / "a.jpg", exif=exif)
    assert seen(tmp_path / "a.jpg").orientation == 6


@pytest.mark.parametrize("skips", [False, True])
def test_what_cannot_be_read_stops_training_unless_it_goes_on(tmp_path, skips):
    write_photo(tmp_path / "a.jpg", 3)
    truncate(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("not a picture")
    assert str(tmp_path) not in str(seen(tmp_path / "b.jpg").remarks)
    for name, kind in (("a.jpg", "cannot be read"), ("b.jpg", "cannot be read"), ("c.jpg", "are missing")):
        facts = seen(tmp_path / name, skips=skips)
        assert [remark.kind for remark in facts.remarks] == [kind]
        assert (facts.wrong is None) == skips
        assert facts.size is None
        assert facts.counts == {1: 1}


def test_what_is_lost_in_reading_is_remarked(tmp_path):
    picture = photo(1).convert("RGBA")
    picture.putalpha(120)
    picture.save(tmp_path / "a.png")
    (remark,) = seen(tmp_path / "a.png").remarks
    assert remark.kind.startswith("have transparent pixels")
    assert (remark.detail, remark.wrong) == ("", False)


def test_bands_that_a_file_has_not(tmp_path):
    photo(1).save(tmp_path / "a.png")
    facts = look_at_picture(PictureItem(str(tmp_path / "a.png"), 0), Pixels(bands=(0, 7)), True)
    assert facts.wrong is not None


def test_other_channels_than_colours(tmp_path):
    photo(1).save(tmp_path / "a.png")
    facts = look_at_picture(PictureItem(str(tmp_path / "a.png"), 0), Pixels(bands=(2, 0)), True)
    blue, _, red = np.asarray(photo(1), np.int64)[..., ::-1].reshape(-1, 3).sum(0)
    assert facts.sums == (blue, red)
