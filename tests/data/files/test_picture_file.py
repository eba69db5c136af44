import io
import struct
import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from switchnorm.data.files.opening import check_claim, opened
from switchnorm.data.files.picture_file import DamagedError, Pixels, picture_sizes, read_picture
from switchnorm.data.files.remarks import gathered
from switchnorm.errors import InputError
from tests.data.files.pictures import (
    ORIENTATIONS,
    chunk,
    exif,
    numbers,
    stored,
    write_jpeg2000,
    write_netpbm,
    write_png16,
    write_sgi16,
    write_tiff_of_few_bits,
    write_turned,
)
from tests.data.photos import photo


@pytest.fixture(autouse=True)
def no_remark():
    """Whatever is remarked outside of `gathered` fails a test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pixels_of(path, *pixels):
    picture = read_picture(str(path), *pixels)
    return np.array(picture) if isinstance(picture, Image.Image) else picture.permute(1, 2, 0).numpy()


def scaled(values, low, high):
    """By the definition: low is 0, high is 255, halves to the even number."""
    return np.rint((values.astype(np.float64) - low) / (high - low) * 255)


def close(found, expected):
    """Within the one level that rounding in 32 bits may move a half."""
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_a_picture_is_the_right_way_up_whatever_way_it_lies_in_its_file(kind, orientation, tmp_path):
    upright, path = np.array(photo(0, 48, 30)), tmp_path / f"a.{kind}"
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}, "avif": {"quality": 100}}
    write_turned(path, upright, orientation, **options.get(kind, {}))
    found = pixels_of(path)
    assert found.shape == (30, 48, 3)
    if kind in ("png", "webp", "tif"):
        assert np.array_equal(found, upright)
    else:  # lossy, and any other way up is far away
        assert np.abs(found.astype(int) - upright).mean() < 12
    assert picture_sizes(str(path)).upright == (30, 48)
    assert picture_sizes(str(path)).stored == ((30, 48) if orientation < 5 else (48, 30))
    assert read_picture(str(path)).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_deep_pictures_and_bands_are_turned_too(orientation, tmp_path):
    deep = numbers((5, 8), high=4095, dtype=np.uint16)
    for kind in ("png", "tif"):
        write_turned(tmp_path / f"a.{kind}", deep, orientation)
        assert np.array_equal(
            pixels_of(tmp_path / f"a.{kind}", Pixels((0,), (0, 4095))), np.rint(deep * (255 / 4095))[..., None]
        )
        assert picture_sizes(str(tmp_path / f"a.{kind}")).upright == (5, 8)
    many = numbers((5, 8, 5))
    tags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "b.tif", stored(many, orientation), photometric="rgb", extratags=tags)
    assert np.array_equal(pixels_of(tmp_path / "b.tif", Pixels((4, 0, 3, 2))), many[..., [4, 0, 3, 2]])
    assert picture_sizes(str(tmp_path / "b.tif")).upright == (5, 8)
    tifffile.imwrite(
        tmp_path / "c.tif",
        stored(many * 1.0, orientation),
        photometric="minisblack",
        planarconfig="contig",
        extratags=tags,
    )
    assert picture_sizes(str(tmp_path / "c.tif")) == ((5, 8), stored(many, orientation).shape[:2])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_uncompressed_tiffs_of_every_mode_are_turned(mode, orientation, tmp_path):
    """Pillow maps these into memory, and mixes up their rows where they lie on their side."""
    values = numbers((5, 8, 4) if mode in ("RGBA", "CMYK") else (5, 8), dtype=np.uint16 if mode == "I;16" else np.uint8)
    kept = stored(values, orientation)
    picture = Image.frombytes(mode, kept.shape[1::-1], kept.tobytes())
    if mode == "P":
        picture.putpalette([level for level in range(256) for _ in range(3)])
    picture.save(tmp_path / "a.tif", exif=exif(orientation))
    found = pixels_of(tmp_path / "a.tif", Pixels((0,), (0, 255)))
    assert np.array_equal(found[..., 0], values if values.ndim == 2 else values[..., 0])


def test_exif_data_behind_the_pixels_of_a_png_counts(tmp_path):
    upright, path = numbers((5, 8, 3)), tmp_path / "a.png"
    Image.fromarray(stored(upright, 6)).save(path)
    block = exif(6).tobytes().removeprefix(b"Exif\0\0")
    path.write_bytes(path.read_bytes()[:-12] + chunk(b"eXIf", block) + chunk(b"IEND", b""))
    assert np.array_equal(pixels_of(path), upright)
    assert picture_sizes(str(path)).upright == (5, 8)


@pytest.mark.parametrize("value", [0, 9, 700])
def test_an_orientation_that_is_none_turns_nothing(value, tmp_path):
    upright = numbers((5, 8, 3))
    Image.fromarray(upright).save(tmp_path / "a.png", exif=exif(value))
    assert np.array_equal(pixels_of(tmp_path / "a.png"), upright)
    assert picture_sizes(str(tmp_path / "a.png")).upright == (5, 8)


def test_damaged_exif_data_leaves_the_picture_whole(tmp_path):
    upright = numbers((5, 8, 3))
    Image.fromarray(upright).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xffrubbish")
    assert np.array_equal(pixels_of(tmp_path / "a.png"), upright)
    assert picture_sizes(str(tmp_path / "a.png")).upright == (5, 8)


def test_the_size_of_a_picture_is_told_without_decoding_it(tmp_path):
    Image.fromarray(numbers((50, 80, 3))).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:200])
    assert picture_sizes(str(tmp_path / "a.png")).upright == (50, 80)
    with pytest.raises(DamagedError):
        read_picture(str(tmp_path / "a.png"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DamagedError, match=r"b\.png"):
        picture_sizes(str(tmp_path / "b.png"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"])
def test_colours_of_8_bits_are_what_pillow_converts_them_to(mode, tmp_path):
    picture = Image.fromarray(numbers((5, 8, 3)))
    picture = Image.fromarray(numbers((5, 8, 3)), "RGB").convert("RGB") if mode == "RGB" else picture
    made = Image.frombytes("LAB", (8, 5), picture.tobytes()) if mode == "LAB" else picture.convert(mode)
    made.save(tmp_path / "a.tif") if mode != "HSV" else made.convert("RGB").save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as opened:
        expected = np.array(opened.convert("RGB"))
    assert np.array_equal(pixels_of(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_dropped_and_said_where_something_shows_through(mode, tmp_path):
    colors, alpha = numbers((5, 8, 3)), np.full((5, 8, 1), 255, np.uint8)
    for name, least in (("whole", 255), ("seen", 3)):
        alpha[2, 3] = least
        picture = Image.fromarray(np.concatenate([colors, alpha], 2))
        if mode == "P":
            picture = Image.fromarray(numbers((5, 8), high=9))
            picture.putpalette(bytes(range(48)))
            picture.info["transparency"] = bytes([least] * 10)
        elif mode == "LA":
            picture = picture.convert("LA")
        picture.save(tmp_path / f"{name}.png")
        with gathered() as remarks:
            found = pixels_of(tmp_path / f"{name}.png")
        assert np.array_equal(found, np.array(picture.convert("RGBA").convert("RGB")))
        assert [what.partition(",")[0] for what, _ in remarks] == (
            ["have transparent pixels"] if name == "seen" else []
        )


def test_alpha_is_a_band_like_any_other_where_bands_are_asked_for(tmp_path):
    four = numbers((5, 8, 4))
    Image.fromarray(four).save(tmp_path / "a.png")
    assert np.array_equal(pixels_of(tmp_path / "a.png", Pixels((0, 1, 2, 3))), four)
    assert np.array_equal(pixels_of(tmp_path / "a.png", Pixels((3,))), four[..., 3:])
    assert read_picture(str(tmp_path / "a.png"), Pixels((3,))).shape == (1, 5, 8)
    assert isinstance(read_picture(str(tmp_path / "a.png"), Pixels((2, 1, 0))), Image.Image)


FULL = {
    "16-bit png": ("png", np.uint16, 0, 65535),
    "12 bits in a 16-bit png": ("png", np.uint16, 0, 4095),
    "16-bit pgm": ("pgm", np.uint16, 0, 65535),
    "16-bit tiff": ("tif", np.uint16, 100, 60000),
    "signed 16-bit tiff": ("tif", np.int16, -1024, 3071),
    "signed 8-bit tiff": ("tif", np.int8, -128, 127),
    "int32 tiff": ("tif", np.int32, -70000, 70000),
    "uint32 tiff": ("tif", np.uint32, 0, 4294967295),
    "float tiff": ("tif", np.float32, 0.0, 1.0),
    "float tiff in kelvin": ("tif", np.float32, 271.5, 309.25),
    "float64 tiff": ("tif", np.float64, -2.5, 7.5),
    "float16 tiff": ("tif", np.float16, -2.5, 7.5),
}


@pytest.mark.parametrize("kind", FULL)
def test_numbers_of_any_type_are_scaled_by_the_range(kind, tmp_path):
    suffix, dtype, low, high = FULL[kind]
    values, path = numbers((5, 8), low, high, dtype), tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, values)
    else:
        Image.fromarray(values).save(path)
    close(pixels_of(path, Pixels(range=(low, high))), np.repeat(scaled(values, low, high)[..., None], 3, 2))
    close(pixels_of(path, Pixels((0,), (low, high))), scaled(values, low, high)[..., None])
    with pytest.raises(InputError, match=r"a\.\w+ has \d+ bits, with numbers from .* say it with data.range"):
        read_picture(str(path))


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_no_bit_of_a_png_with_several_deep_bands_is_lost(bands, tmp_path):
    values = numbers((5, 8, bands), high=4095, dtype=np.uint16)
    write_png16(tmp_path / "a.png", values)
    close(pixels_of(tmp_path / "a.png", Pixels(tuple(range(bands)), (0, 4095))), scaled(values, 0, 4095))
    with gathered() as remarks:
        found = pixels_of(tmp_path / "a.png", Pixels(range=(0, 4095)))
    colors = values[..., : bands - (bands % 2 == 0)]
    close(found, scaled(colors.repeat(3 // colors.shape[2], 2), 0, 4095))
    assert len(remarks) == (bands % 2 == 0)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("greatest", [256, 4095, 65535])
@pytest.mark.parametrize("bands", [1, 3])
def test_deep_numbers_of_a_pnm_are_those_that_it_stores(bands, greatest, plain, tmp_path):
    values = numbers((5, 8, bands), high=min(greatest, 4095), dtype=np.uint16)
    write_netpbm(tmp_path / "a.ppm", values[..., 0] if bands == 1 else values, greatest, plain)
    close(pixels_of(tmp_path / "a.ppm", Pixels(range=(0, 4095))), scaled(values.repeat(3 // bands, 2), 0, 4095))
    close(pixels_of(tmp_path / "a.ppm", Pixels((0,), (0, 4095))), scaled(values[..., :1], 0, 4095))
    with pytest.raises(InputError, match=r"a\.ppm has 16 bits, with numbers from 0 to \d+, .* say it with data.range"):
        read_picture(str(tmp_path / "a.ppm"))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("bands", [1, 3])
def test_the_greatest_number_of_a_pnm_of_8_bits_is_white(bands, plain, tmp_path):
    values = numbers((5, 8, bands), high=50)
    write_netpbm(tmp_path / "a.ppm", values[..., 0] if bands == 1 else values, 50, plain)
    expected = np.rint(values / 50 * 255)
    assert np.array_equal(pixels_of(tmp_path / "a.ppm"), expected.repeat(3 // bands, 2))
    assert np.array_equal(pixels_of(tmp_path / "a.ppm", Pixels((0,))), expected[..., :1])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"P5 4 4 4095 abc", "it is cut off: 1 of 16 numbers are there"),
        (b"P3 4 4 4095 1 2 3", "it is cut off: 3 of 48 numbers are there"),
        (b"P2 2 1 4095 1 x", "invalid literal"),
        (b"P2 2 1 4095 1 -9", "it has numbers outside of 0 to 65535"),
        (b"P2 2 1 4095 1 " + b"9" * 40, "it has numbers outside of 0 to 65535"),
    ],
)
def test_a_pnm_that_is_not_whole_is_damage(content, match, tmp_path):
    (tmp_path / "a.ppm").write_bytes(content)
    with pytest.raises(DamagedError, match=match):
        read_picture(str(tmp_path / "a.ppm"), Pixels(range=(0, 4095)))


@pytest.mark.parametrize("kind", ["j2k", "jp2"])
@pytest.mark.parametrize("depth", [10, 12, 16])
def test_a_jpeg_2000_of_any_depth_has_the_numbers_that_it_stores(depth, kind, tmp_path):
    values, path = numbers((50, 80), high=1023, dtype=np.uint16), tmp_path / f"a.{kind}"
    write_jpeg2000(path, values, depth)
    close(pixels_of(path, Pixels((0,), (0, 1023))), scaled(values, 0, 1023)[..., None])


def test_what_pillow_would_cut_and_nothing_else_reads_is_refused(tmp_path):
    cut = "whose numbers Pillow changes; save it as PNG or TIFF"
    write_jpeg2000(tmp_path / "a.jp2", numbers((50, 80, 3)), 16)
    write_jpeg2000(tmp_path / "b.jp2", numbers((50, 80), dtype=np.uint16), 12, signed=True)
    write_sgi16(tmp_path / "c.sgi", numbers((5, 8), high=4095, dtype=np.uint16))
    for name, what in (("a.jp2", "JPEG2000 of 16 bits"), ("b.jp2", ".* 12 bits with a sign"), ("c.sgi", ".* 16 bits")):
        with pytest.raises(InputError, match=rf"{name} is a {what}, {cut}"):
            read_picture(str(tmp_path / name), Pixels(range=(0, 4095)))


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_gray_of_few_bits_is_shown_alike_as_a_picture_and_as_a_band(bits, photometric, tmp_path):
    values, path = numbers((5, 8), high=2**bits - 1), tmp_path / "a.tif"
    write_tiff_of_few_bits(path, values, bits, photometric)
    light = values if photometric == "minisblack" else 2**bits - 1 - values
    shown = light[..., None] * (255 // (2**bits - 1))
    assert np.array_equal(pixels_of(path), shown.repeat(3, 2))
    assert np.array_equal(pixels_of(path, Pixels((0,))), shown)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "tif"])
@pytest.mark.parametrize("transparency", [None, 1, b"\0\x80"])
def test_bands_of_a_paletted_file_are_its_colours(kind, transparency, tmp_path):
    picture = Image.fromarray(numbers((5, 8), high=9))
    picture.putpalette(numbers(30).tobytes())
    picture.save(tmp_path / f"a.{kind}", **({"transparency": transparency} if transparency and kind == "png" else {}))
    with Image.open(tmp_path / f"a.{kind}") as opened:
        expected = np.array(opened.convert("RGBA" if "transparency" in opened.info else "RGB"))
    assert np.array_equal(pixels_of(tmp_path / f"a.{kind}", Pixels(tuple(range(expected.shape[2])))), expected)


def test_numbers_outside_of_the_range_are_clipped_and_said(tmp_path):
    values = numbers((5, 8), high=5000, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    with gathered() as remarks:
        found = pixels_of(tmp_path / "a.png", Pixels(range=(1000, 4095)))
    close(found[..., 0], scaled(values.clip(1000, 4095), 1000, 4095))
    ((what, file),) = remarks
    assert what == "have numbers outside of data.range [1000, 4095], which are clipped"
    assert file == f"{tmp_path / 'a.png'} (0 to 5000)"


def test_pictures_of_8_bits_keep_their_numbers_unless_the_range_is_one_of_8_bits(tmp_path):
    values = numbers((5, 8, 3), high=63)
    Image.fromarray(values).save(tmp_path / "a.png")
    for span in (None, (0, 255), (0, 4095), (-100, 100), (0, 1)):
        assert np.array_equal(pixels_of(tmp_path / "a.png", Pixels(range=span)), values)
    close(pixels_of(tmp_path / "a.png", Pixels(range=(0, 63))), scaled(values, 0, 63))
    close(pixels_of(tmp_path / "a.png", Pixels((0, 1), (0, 63))), scaled(values[..., :2], 0, 63))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_damage(value, tmp_path):
    values = numbers((5, 8), dtype=np.float32)
    values[1, 2] = values[3, 3] = value
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DamagedError, match=r"a.tif .2 of its numbers are not finite"):
        read_picture(str(tmp_path / "a.tif"), Pixels(range=(0, 255)))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.float32])
def test_the_highest_byte_may_come_first(dtype, compression, tmp_path):
    values = numbers((5, 8), 3, 2000, dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=">", compression=compression)
    found = pixels_of(tmp_path / "a.tif", Pixels((0,), (0, 2000)))
    close(found[..., 0], scaled(values, 0, 2000))


def test_what_tifffile_needs_to_decompress_is_no_damage(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", numbers((5, 8, 6)), planarconfig="contig", compression="zlib")
    monkeypatch.setattr(
        tifffile.TiffPage, "asarray", lambda self: (_ for _ in ()).throw(ValueError("... 'imagecodecs'"))
    )
    with pytest.raises(InputError, match=r"a.tif is compressed by ADOBE_DEFLATE, .* run `pip install imagecodecs`"):
        read_picture(str(tmp_path / "a.tif"), Pixels(tuple(range(6))))


def test_complex_numbers_are_damage(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbers((5, 8)).astype(np.complex64))
    for pixels in (Pixels(), Pixels(range=(0, 255))):
        with pytest.raises(DamagedError, match=r"a.tif .its numbers are complex"):
            read_picture(str(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_any_bands_of_a_tiff_are_taken(count, dtype, planar, tmp_path):
    values = numbers((5, 8, count), dtype=dtype)
    kept = values if planar == "contig" else np.moveaxis(values, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", kept, photometric="minisblack", planarconfig=planar)
    span = None if dtype == np.uint8 else (0, 255)
    picture = read_picture(str(tmp_path / "a.tif"), Pixels(tuple(range(count)), span))
    assert isinstance(picture, torch.Tensor)
    close(picture.permute(1, 2, 0).numpy(), np.rint(values.astype(float)))
    with pytest.raises(InputError, match=rf"a.tif has {count} bands, .* data.bands, as in .*{count - 1}. for all"):
        read_picture(str(tmp_path / "a.tif"), Pixels(range=span))
    with pytest.raises(InputError, match=f"data.bands has {count}; the last is {count - 1}"):
        read_picture(str(tmp_path / "a.tif"), Pixels((0, count), span))


def test_bands_behind_red_green_and_blue_do_not_vanish(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbers((5, 8, 5)), photometric="rgb")
    with pytest.raises(InputError, match="has 5 bands"):
        read_picture(str(tmp_path / "a.tif"))


def test_pages_of_one_band_each_are_bands_where_these_are_asked_for(tmp_path):
    values = numbers((3, 5, 8), high=999, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    close(
        pixels_of(tmp_path / "a.tif", Pixels((2, 0), (0, 999))), scaled(np.moveaxis(values, 0, -1)[..., [2, 0]], 0, 999)
    )
    with gathered() as remarks:
        found = pixels_of(tmp_path / "a.tif", Pixels((0,), (0, 999)))
    close(found, scaled(values[0][..., None], 0, 999))
    assert [what for what, _ in remarks] == ["have several frames or pages, of which the first is taken"]


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_what_moves_the_first_frame_is_taken_and_that_is_said(kind, tmp_path):
    frames = [Image.fromarray(numbers((5, 8, 3), seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], lossless=True)
    with gathered() as remarks:
        found = pixels_of(tmp_path / f"a.{kind}")
    assert np.abs(found.astype(int) - np.array(frames[0])).mean() < 10
    assert [what for what, _ in remarks] == ["have several frames or pages, of which the first is taken"]


def test_without_tifffile_the_error_says_what_to_install(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", numbers((5, 8, 5)), photometric="rgb")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(InputError, match=r"a.tif .*`pip install 'switchnorm\[tiff\]'`"):
        read_picture(str(tmp_path / "a.tif"), Pixels((0, 4)))


def test_a_small_file_that_claims_gigapixels_is_refused_before_it_is_decoded(tmp_path):
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    with pytest.raises(DamagedError, match="57 bytes claim 100000x100000 pixels"):
        read_picture(str(tmp_path / "a.png"))


def test_bands_and_pages_that_no_bytes_stand_for_are_refused(tmp_path):
    """A TIFF may leave its pixels out, and pages may share theirs."""
    page = numbers((300, 400))
    tifffile.imwrite(tmp_path / "a.tif", np.stack([page] * 4), photometric="minisblack")
    whole = (tmp_path / "a.tif").stat().st_size
    assert pixels_of(tmp_path / "a.tif", Pixels((3, 2))).shape == (300, 400, 2)
    check_claim(str(tmp_path / "a.tif"), (400, 300), 4)
    with pytest.raises(ValueError, match=f"its {whole} bytes claim 40000x30000 pixels of 9 bands"):
        check_claim(str(tmp_path / "a.tif"), (40_000, 30_000), 9)


def test_a_picture_larger_than_pillow_allows_is_read(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.new("L", (400, 300), 7).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert pixels_of(tmp_path / "a.png").shape == (300, 400, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_threads_that_open_files_at_once_leave_pillows_limit(tmp_path, monkeypatch):
    Image.new("L", (400, 300), 7).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    first, second = opened(str(tmp_path / "a.png")), opened(str(tmp_path / "a.png"))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with opened(str(tmp_path / "a.png")):  # while the second is open
        pass
    assert Image.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 1000
