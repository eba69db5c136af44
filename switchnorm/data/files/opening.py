"""Opening a picture's file with Pillow: how large it may be, and which way up it is."""

from __future__ import annotations

import logging
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from switchnorm.data.files.members import Member, open_file, size_of_file

#: Pixels that any file may claim, those that flat colours may unfold to (deflate ends at 1032 bytes for one), and how
#: many a byte may stand for in larger pictures. Photographs of any size need more bytes than that.
_ALWAYS, _FLAT, _PER_BYTE_FLAT, _PER_BYTE = 1 << 26, 1 << 28, 1032, 32

#: The tag of EXIF, and of TIFF.
ORIENTATION = 0x0112
_WIDTH, _LENGTH = 256, 257  # tags of TIFF
#: What turns a stored picture the right way up, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Where a picture of Pillow keeps what says how it lies.
_SAYING = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")

Array = np.ndarray[Any, Any]

# Pillow logs what it raises as well, and logging prints what nobody listens to: a line for each TIFF of many bands.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """A picture's file, of which nothing but the head is read yet.

    Pillow's own limit, 179 megapixels whatever the file, is replaced by one that counts the file's bytes: a photograph
    of any size is read, and a small file that unfolds to gigabytes is not.

    Raises:
        ValueError: more pixels than such a file may have.
        Exception: whatever Pillow raises for what is no picture.
    """
    # A file of a folder is opened by its name, by which some decoders read it in other ways.
    with _without_pillows_limit(), Image.open(open_file(path) if isinstance(path, Member) else path) as picture:
        check_claim(path, picture.size)
        if isinstance(picture, TiffImagePlugin.TiffImageFile):
            # By its name Pillow would map an uncompressed one into memory, in the size that it has once it is turned,
            # and mix up the rows of one that lies on its side (Pillow 13).
            picture.filename = ""
        yield picture


_opening = threading.Lock()
_limits: list[int | None] = []


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Pillow has one limit for all threads: the first that opens a file lifts it, the last to close one restores it."""
    with _opening:
        _limits.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _opening:
            limit = _limits.pop()
            if not _limits:
                Image.MAX_IMAGE_PIXELS = limit


def check_claim(path: str, size: tuple[int, int], layers: int = 1) -> None:
    """Raise `ValueError` for a file that claims more pixels than its bytes can stand for.

    Args:
        path: of the file.
        size: width and height.
        layers: how many numbers each pixel has, where that is not bounded: bands or pages.
    """
    pixels, held = size[0] * size[1] * layers, size_of_file(path)
    if pixels > max(_ALWAYS, min(_FLAT, _PER_BYTE_FLAT * held), _PER_BYTE * held):
        raise ValueError(
            f"its {held} bytes claim {size[0]}x{size[1]} pixels{f' of {layers} bands' if layers > 1 else ''}, which no "
            "photograph does; if it is one, store it with less compression"
        )


def orientation(picture: Image.Image) -> int:
    """How a picture lies in its file, 1 to 8, as EXIF or XMP data say; 1 where nothing that can be read says it.

    Of TIFF, Pillow turns the pixels itself, and afterwards nothing says that they were turned.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of data that is cut off
            found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged data about a picture says nothing, and its pixels may be whole
        return 1
    return found if found in _TURNS else 1


def upright(picture: Image.Image) -> Image.Image:
    """The picture the right way up; turned, it no longer says how it lay."""
    picture.load()
    turn = _TURNS.get(orientation(picture))
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    turned.info = {key: value for key, value in picture.info.items() if key not in _SAYING}
    return turned


def turned(pixels: Array, how: int) -> Array:
    """Pixels (H, W, ...) of a picture that lies so, the right way up."""
    if how >= 5:
        pixels = pixels.swapaxes(0, 1)
    vertical, horizontal = how in (3, 4, 7, 8), how in (2, 3, 6, 7)
    pixels = pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    return np.ascontiguousarray(pixels)


def sides(size: Sequence[int]) -> str:
    """A height and a width as everybody writes them: "640x480" is 640 wide."""
    return f"{size[1]}x{size[0]}"


class Sizes(NamedTuple):
    """Height and width of a picture, the right way up and as its file stores it."""

    upright: tuple[int, int]
    stored: tuple[int, int]


def sizes_of(path: str, picture: Image.Image) -> Sizes:
    """The sizes of a file's opened picture, whose pixels are not decoded."""
    stored = picture.height, picture.width
    if isinstance(picture, TiffImagePlugin.TiffImageFile):  # whose size Pillow may have turned already
        stored = picture.tag_v2[_LENGTH], picture.tag_v2[_WIDTH]
    # Pillow decodes a PNG to look for EXIF data behind the pixels, where none is before them.
    decodes = isinstance(picture, PngImagePlugin.PngImageFile) and not any(key in picture.info for key in _SAYING)
    on_its_side = (not decodes or _late_exif(path)) and orientation(picture) >= 5
    return Sizes(stored[::-1] if on_its_side else stored, stored)


def _late_exif(path: str) -> bool:
    """Whether a PNG has EXIF data somewhere; only the heads of its chunks are read."""
    with open_file(path) as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return True
            file.seek(length + 4, 1)
    return False
