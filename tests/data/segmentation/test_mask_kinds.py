"""Files of masks of every kind: which are read, as what, and which are refused with the reason."""

import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from switchnorm.data.segmentation.mask_file import read_content
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


def test_channels_of_16_bits(own):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(30 * 6) for _ in range(24))
    header = struct.pack(">IIBBBBB", 30, 24, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (own / "valannot/00.png").write_bytes(png)
    refused("mask .*/00.png has several channels of 16 bits", lambda: dataset(own).test_target(0))
