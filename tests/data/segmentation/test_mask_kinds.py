"""Files of masks of every kind: which are read, as what, and which are refused with the reason."""

import shutil
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from switchnorm.data.segmentation.mask_file import read_content
from tests.data.files.pictures import write_netpbm, write_sgi16, write_tiff_of_few_bits
from tests.data.segmentation.mapped import COLORS, dataset, labels_of, refused

SIZE = (24, 30)
COLORED = "red #dc3c3c\ngreen #3cdc3c\nblue #3c3cdc\n"


def put(own, image, name="00.png", **options):
    """Make it the first validation mask, and give its labels as the dataset reads them."""
    (own / "valannot/00.png").unlink(missing_ok=True)
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(own / "valannot" / name, **options.pop("save", {}))
    return lambda: dataset(own, **options).test_target(0).numpy()


def colored(own):
    (own / "classes.txt").write_text(COLORED)
    return own


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_channels_that_are_all_the_same_are_a_number(own, mode):
    labels = labels_of(1000, SIZE)
    assert np.array_equal(put(own, Image.fromarray(labels).convert(mode))(), labels)
    shutil.copy(own / "valannot/00.png", own / "trainannot")
    (said,) = dataset(own).unusual()
    assert said == "1 of 11 masks looked at are in red, green and blue, all the same, and are read by their numbers"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("00.png", bool),
        ("00.tif", np.float32),
        ("00.tif", np.int32),
        ("00.gif", np.uint8),
        ("00.pgm", np.uint8),
        ("00.bmp", np.uint8),
    ],
)
def test_numbers_of_every_width_and_format(own, name, dtype):
    labels = labels_of(1000, SIZE) > 0 if dtype is bool else labels_of(1000, SIZE)
    read = put(own, labels.astype(dtype), name)
    assert np.array_equal(read(), labels.astype(np.uint8))
    assert read_content(str(own / "valannot" / name)).counted(by_color=False) == dict(
        zip(*(each.tolist() for each in np.unique(labels.astype(int), return_counts=True)), strict=True)
    )


def written(own, name, write):
    """Have `write` make the first validation mask, and give its labels as the dataset reads them."""
    (own / "valannot/00.png").unlink(missing_ok=True)
    write(own / "valannot" / name)
    return dataset(own).test_target(0).numpy()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("greatest", [2, 3, 50, 150, 255, 256, 65535])
def test_numbers_of_a_pgm_are_its_own_whatever_its_head_calls_white(own, greatest, channels, plain):
    labels = labels_of(1000, SIZE)
    if greatest == 150:
        labels[0, 0] = IGNORED  # beyond what the head says, as people write void
    pixels = labels if channels == 1 else labels[..., None].repeat(3, 2)

    def write(path):
        write_netpbm(path, pixels, greatest, plain)

    if channels == 3 and greatest > 255:
        refused("mask .*/00.pgm has several channels of 16 bits", lambda: written(own, "00.pgm", write))
    else:
        assert np.array_equal(written(own, "00.pgm", write), labels)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"], ids=lambda name: np.dtype(name).name
)
def test_numbers_of_a_tiff_are_its_own_however_it_is_written(own, dtype, photometric, byteorder, compression):
    labels = labels_of(1000, SIZE)
    options = {"photometric": photometric, "byteorder": byteorder, "compression": compression}
    read = written(own, "00.tif", lambda path: tifffile.imwrite(path, labels.astype(dtype), **options))
    assert np.array_equal(read, labels)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [2, 4])
def test_numbers_of_a_tiff_of_few_bits_are_its_own(own, bits, photometric):
    labels = labels_of(1000, SIZE)
    read = written(own, "00.tif", lambda path: write_tiff_of_few_bits(path, np.c_[labels, labels], bits, photometric))
    assert np.array_equal(read, np.c_[labels, labels])


def test_a_number_below_0_or_beyond_32_bits_is_named(own):
    for number, dtype in ((-1, "i1"), (-1, "i2"), (-1, "i4"), (2**32 - 1, "u4"), (-(2**40), "i8"), (2**40, "f8")):
        labels = labels_of(1000, SIZE).astype(dtype)
        labels[4, 2] = number
        refused(
            f"mask .*/00.tif has {number} in row 4, column 2; expected the numbers 0 to 2",
            lambda labels=labels: written(own, "00.tif", lambda path: tifffile.imwrite(path, labels)),
        )


def test_masks_by_colour_are_read_as_they_are_shown(own):
    """The darker of two grays is black wherever the file's numbers begin."""
    (own / "classes.txt").unlink()
    by_color = {"#000000": "dark", "#ffffff": "light"}
    light = (labels_of(1000, SIZE) > 0).astype(np.uint8)
    for name, write in (
        ("00.pgm", lambda path: write_netpbm(path, light, 1)),
        ("00.tif", lambda path: tifffile.imwrite(path, 255 * (1 - light), photometric="miniswhite")),
        ("00.png", lambda path: Image.fromarray(light.astype(bool)).save(path)),
    ):
        for file in (own / "valannot").glob("00.*"):
            file.unlink()
        write(own / "valannot" / name)
        assert np.array_equal(dataset(own, values=by_color).test_target(0).numpy(), light)


@pytest.mark.parametrize("name", ["00.pgm", "00.tif", "00.bmp", "00.gif"])
def test_white_of_one_bit_is_1_whatever_a_format_calls_it(own, name):
    white = labels_of(1000, SIZE) > 0
    file = own / "valannot" / name

    def write(path):
        if name.endswith("tif"):
            write_tiff_of_few_bits(path, np.c_[~white, ~white].astype(np.uint8), 1, "miniswhite")
        elif name.endswith("pgm"):
            path.write_bytes(b"P1 60 24\n" + "".join("01"[not each] for each in np.c_[white, white].ravel()).encode())
        elif name.endswith("bmp"):
            Image.fromarray(np.c_[white, white]).save(path)
        else:
            Image.fromarray(np.c_[white, white].astype(np.uint8)).save(path)

    assert np.array_equal(written(own, name, write), np.c_[white, white])
    assert read_content(str(file)).counted(by_color=False).keys() == {0, 1}


def test_white_of_one_bit_is_1(own):
    white = put(own, np.ones(SIZE, bool), values={0: "a", 255: "b"})
    (own / "classes.txt").unlink()
    refused(r"00.png has 1 in row 0, column 0; expected the numbers 0, 255 of the classes \(data.values", white)


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (0.5, "has 0.5 in row 4, column 2; expected whole numbers"),
        (np.nan, "has nan in row 4"),
        (-1.0, "has -1 in row 4"),
        (1e9, "has 1000000000 in row 4"),
    ],
)
def test_floating_point_that_is_no_number_of_a_mask(own, number, match):
    numbers = labels_of(1000, SIZE).astype(np.float32)
    numbers[4, 2] = number
    refused(f"mask .*/00.tif {match}", put(own, numbers, "00.tif"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_the_classes_are_read_exactly(own, mode):
    labels = labels_of(1000, SIZE)
    pixels = COLORS[labels]
    pixels[0, :3] = 0
    image = Image.fromarray(pixels).convert(mode)
    expected = labels.copy()
    expected[0, :3] = IGNORED
    assert np.array_equal(put(colored(own), image, ignore=["#000000", 255])(), expected)
    refused(
        "mask .*/00.png has the colour #000000 in row 0, column 0 and 2 more pixels of unknown colours; the nearest "
        "that means something is #3c3cdc, 'blue'|#dc3c3c, 'red'|#3cdc3c, 'green'",
        put(own, image),
    )
    pixels[0, :3] = (220, 60, 61)
    refused("has the colour #dc3c3d in row 0, .*the nearest that means something is #dc3c3c, 'red'", put(own, pixels))
    assert read_content(str(own / "valannot/00.png")).counted(by_color=True)["#dc3c3d"] == 3


def test_a_picture_in_colour_where_classes_have_none_says_how_they_get_some(own):
    refused(
        r"mask .*/00.png is a picture in colour, #.{6} in row 0, column 0; expected one number per pixel: the "
        r"numbers 0 to 2 .*, or colours of classes, 'road #804080' in classes.txt or .'#804080': road. in data.values",
        put(own, COLORS[labels_of(1000, SIZE)]),
    )
    refused(r"ignore \['#000000'\] has a colour, and the classes have none", dataset(own, ignore=["#000000"]).prepare)
    camvid = create_dataset("camvid", root=str(own), workers=0)
    refused("is a picture in colour, .* of the classes, and 11 for what does not count$", lambda: camvid.test_target(0))


def test_classes_that_share_a_colour_cannot_be_told_apart_by_it(own):
    (own / "classes.txt").write_text("red #dc3c3c\ngreen #dc3c3c\nblue #3c3cdc\n")
    labels = labels_of(1000, SIZE)
    refused(
        "in colour, and 'red' and 'green' share the colour #dc3c3c; expected a colour of its", put(own, COLORS[labels])
    )
    assert np.array_equal(put(own, labels)(), labels)


def paletted(labels, colors):
    image = Image.fromarray(labels)
    image.putpalette(np.vstack([colors, np.zeros((256 - len(colors), 3))]).astype(np.uint8).tobytes())
    return image


def test_a_palette_that_contradicts_the_numbers_is_said(own):
    labels = labels_of(1000, SIZE)
    labels[0, 0] = IGNORED
    assert np.array_equal(put(colored(own), paletted(labels, COLORS))(), labels)
    other = paletted(labels, COLORS[[1, 0, 2]])
    refused(
        "mask .*/00.png shows 0 in #3cdc3c, the colour of 'green', but 0 is the number of 'red'; say in data.values "
        "what counts, the colours, {'#3cdc3c': NAME}, or the numbers, {0: NAME}",
        put(own, other),
    )
    assert np.array_equal(put(own, other, values={0: "red", 1: "green", 2: "blue", 255: None})(), labels)
    by_color = {"#dc3c3c": "red", "#3cdc3c": "green", "#3c3cdc": "blue", "#000000": None}  # labels 2, 1, 0
    meant = np.array([1, 2, 0, *[IGNORED] * 253])[labels]
    assert np.array_equal(put(own, other, values=by_color)(), meant)
    meaningless = paletted(labels, COLORS[[1, 0, 2]] + 1)
    assert np.array_equal(put(own, meaningless)(), labels)


def test_gray_that_is_a_number_of_one_class_and_the_colour_of_another(own):
    (own / "classes.txt").write_text("red #010101\ngreen #000000\nblue #3c3cdc\n")
    gray = np.repeat((labels_of(1000, SIZE) > 0).astype(np.uint8)[..., None], 3, 2)
    refused(
        r"can be read in two ways: #0\d0\d0\d in row 0, column 0 is the colour of .*; say in data.values",
        put(own, gray),
    )
    gray[0, 0] = 2  # which is no colour of a class, so that these are numbers
    assert np.array_equal(put(own, gray)(), gray[..., 0])


@pytest.mark.parametrize(
    ("name", "save", "match"),
    [
        (
            "00.jpg",
            {},
            "1 of the 5 pictures in .*/val have no mask, .*; 00.jpg is there, but JPEG changes labels: save m",
        ),
        ("00.webp", {"lossless": True}, "00.webp is there, but WebP may change labels: save masks as PNG"),
        ("00.png", {"format": "JPEG"}, "mask .*/00.png is a JPEG, which changes labels; save masks as PNG"),
        ("00.png", {"format": "WEBP"}, "mask .*/00.png is a WebP, which may change labels; save masks as PNG"),
        ("00.tif", {"compression": "jpeg"}, "mask .*/00.tif is a JPEG, which changes labels"),
    ],
)
def test_formats_that_change_labels(own, name, save, match):
    refused(match, put(own, labels_of(1000, SIZE), name, save=save))


def test_what_is_no_mask(own):
    labels = Image.fromarray(labels_of(1000, SIZE))
    refused(
        "00.tif holds 2 pictures; expected one",
        put(own, labels, "00.tif", save={"save_all": True, "append_images": [labels]}),
    )
    (own / "valannot/00.tif").unlink()
    refused(
        "is a picture of mode CMYK; expected one number per pixel, or RGB", put(own, labels.convert("CMYK"), "00.tif")
    )
    (own / "valannot/00.tif").unlink()
    clear = np.dstack([COLORS[labels_of(1000, SIZE)], np.full(SIZE, 255, np.uint8)])
    clear[3, 4, 3] = 7
    refused(r"is transparent in row 3, column 4 \(alpha 7\); expected a mask without", put(own, clear))
    (own / "valannot/00.png").unlink()
    np.save(own / "valannot/00.npy", labels_of(1000, SIZE))
    refused("; 00.npy is there, but that is no file of a mask: save masks as PNG", dataset(own).prepare)


def test_tiffs_that_pillow_does_not_know_are_masks_by_the_same_rules(own):
    labels = labels_of(1000, SIZE).astype(np.int64)
    pages = {"photometric": "minisblack", "metadata": None}
    refused(
        "00.tif holds 2 pictures; expected one",
        lambda: written(own, "00.tif", lambda path: tifffile.imwrite(path, np.stack([labels, labels]), **pages)),
    )
    for bands, match in ((2, "has 2 channels; expected one number per pixel, or RGB"), (5, "has 5 channels; expected")):
        many = labels[..., None].repeat(bands, 2).astype(np.uint8)
        refused(
            match,
            lambda many=many: written(
                own,
                "00.tif",
                lambda path: tifffile.imwrite(path, many, planarconfig="contig", photometric="minisblack"),
            ),
        )


@pytest.mark.parametrize(
    ("compression", "dtype", "called"),
    [
        (50001, np.uint8, "WebP, which may change"),
        (50001, np.int64, "WebP, which"),
        (34712, np.int64, "JPEG 2000, which"),
    ],
)
def test_a_lossy_compression_within_a_tiff(own, compression, dtype, called):
    def write(path):
        tifffile.imwrite(path, labels_of(1000, SIZE).astype(dtype))
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags[259].overwrite(compression)

    refused(f"00.tif is a {called}", lambda: written(own, "00.tif", write))


def test_a_mask_of_which_pillow_keeps_half_is_refused(own):
    labels = labels_of(1000, SIZE).astype(np.uint16)
    refused("00.png is a SGI of 16 bits, .* save it as PNG or TIFF", lambda: written(own, "00.png", sgi(labels)))


def sgi(numbers):
    return lambda path: write_sgi16(path, numbers)


def test_channels_of_16_bits(own):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(30 * 6) for _ in range(24))
    header = struct.pack(">IIBBBBB", 30, 24, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (own / "valannot/00.png").write_bytes(png)
    refused("mask .*/00.png has several channels of 16 bits", lambda: dataset(own).test_target(0))
