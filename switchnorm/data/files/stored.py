"""The numbers in a picture's file: any bands, of any type, where Pillow's 8 bits in three bands are not all of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from switchnorm.data.files.members import Member, open_file
from switchnorm.data.files.opening import ORIENTATION, Sizes, check_claim, opened, orientation, turned, upright
from switchnorm.data.files.remarks import remark
from switchnorm.errors import InputError

Array = np.ndarray[Any, Any]

#: Tags of TIFF.
_BITS, _COMPRESSION, _SAMPLES, _KIND = 258, 259, 277, 339
_UNSIGNED, _SIGNED = 1, 2  # of `_KIND`
_WITH_ALPHA = ("LA", "PA", "RGBA")


class Stored(NamedTuple):
    """What a file holds.

    Args:
        numbers: (H, W, B), the right way up, in the type that the file has.
        alpha: whether the last band says how opaque the others are.
        orientation: how the picture lies in the file, 1 to 8, where Pillow cannot say it.
    """

    numbers: Array
    alpha: bool
    orientation: int = 1


def is_plain(path: str, picture: Image.Image) -> bool:
    """Whether Pillow gives every band of a file, opened as that picture, in the 8 bits that it has there."""
    if picture.mode.startswith(("I", "F")) or _png_of_16_bits(path, picture):
        return False
    if picture.format != "TIFF":
        return True
    bits, samples, kind = (_tag(picture, tag) for tag in (_BITS, _SAMPLES, _KIND))
    return bits <= 8 and samples <= len(picture.getbands()) and kind == _UNSIGNED


def read_stored(path: str, *, pages: bool = False) -> Stored:
    """All numbers of a file.

    Args:
        path: of the file.
        pages: whether the pages of a TIFF that has one band in each are its bands; otherwise the first is taken.

    Raises:
        InputError: tifffile is needed and not installed.
        Exception: whatever the decoders raise for a damaged file.
    """
    try:
        with opened(path) as picture:
            if _png_of_16_bits(path, picture) and not picture.mode.startswith("I"):
                return _png(path, picture)
            if picture.format != "TIFF" or _is_whole(path, picture):
                return _by_pillow(path, picture, pages)
    except UnidentifiedImageError:
        if not is_tiff(path):
            raise
    return _by_tifffile(path, pages)


def is_tiff(path: str) -> bool:
    """Whether a file begins as a TIFF does; Pillow knows only some of them."""
    with open_file(path) as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_sizes(path: str) -> Sizes:
    """The sizes of a TIFF that Pillow does not know; errors as `read_stored`."""
    with _tifffile(path).TiffFile(open_file(path) if isinstance(path, Member) else path) as file:
        page = file.pages[0]
        size = page.imagelength, page.imagewidth
        return Sizes(size if _lies(page) < 5 else size[::-1], size)


def note_frames(path: str, picture: Image.Image) -> None:
    """Remark that a file holds more than the one picture that is taken of it."""
    try:
        # Cameras hide previews behind their JPEGs, whose format is then called MPO.
        several = picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1
    except Exception:  # what lies behind the first picture is damaged, and is not needed
        return
    if several:
        remark("have several frames or pages, of which the first is taken", path)


def _tag(picture: Image.Image, tag: int) -> int:
    """A tag of an opened TIFF, the greatest where it has a number for each sample; 1 where it is absent, as in TIFF."""
    value = picture.tag_v2.get(tag, 1)  # type: ignore[attr-defined]  # of TiffImageFile
    return int(max(value)) if isinstance(value, tuple) else int(value)


def _png_of_16_bits(path: str, picture: Image.Image) -> bool:
    if picture.format != "PNG":
        return False
    with open_file(path) as file:
        file.seek(24)  # signature, length and name of the first chunk, width and height: Pillow does not keep the depth
        return file.read(1) == b"\x10"


def _is_whole(path: str, picture: Image.Image) -> bool:
    """Whether Pillow gives all numbers of an opened TIFF, in more than 8 bits perhaps."""
    # Where the first byte is the highest one, it swaps those of numbers that libtiff has swapped already (Pillow 13).
    big_endian = picture.tag_v2.prefix == b"MM"  # type: ignore[attr-defined]  # of TiffImageFile
    if big_endian and picture.mode in ("I", "F") and _tag(picture, _COMPRESSION) != 1:
        return False
    samples = _tag(picture, _SAMPLES)
    return samples <= len(picture.getbands()) and (samples == 1 or is_plain(path, picture))


def _by_pillow(path: str, picture: Image.Image, pages: bool) -> Stored:
    if not (pages and picture.format == "TIFF" and len(picture.getbands()) == 1 and picture.mode != "P"):
        note_frames(path, picture)
        return _numbers(picture)
    bands, count = [], getattr(picture, "n_frames", 1)
    check_claim(path, picture.size, count)
    for page in range(count):
        picture.seek(page)
        bands.append(_numbers(picture).numbers)
    if len({band.shape for band in bands}) > 1:
        raise ValueError("its pages are of different sizes, and so no bands of one picture")
    return Stored(np.concatenate(bands, 2), alpha=False)


def _numbers(picture: Image.Image) -> Stored:
    """Of the frame at which an opened file stands."""
    shown = upright(picture)
    if shown.mode in ("P", "PA"):
        shown = shown.convert("RGBA" if shown.mode == "PA" or "transparency" in shown.info else "RGB")
    elif shown.mode == "1":
        shown = shown.convert("L")
    numbers = np.asarray(shown)
    if picture.format == "TIFF":  # of which Pillow keeps the bits and not what they mean
        kind = _tag(picture, _KIND)
        if kind == _SIGNED and numbers.dtype == np.uint8:
            numbers = numbers.view(np.int8)
        elif kind == _UNSIGNED and numbers.dtype == np.int32:
            numbers = numbers.view(np.uint32)
    return Stored(numbers.reshape(*numbers.shape[:2], -1), shown.mode in _WITH_ALPHA)


def _png(path: str, picture: Image.Image) -> Stored:
    """A PNG of several bands of 16 bits, of which Pillow keeps the upper 8, for want of a mode that holds them.

    Its decoder takes the upper and the lower bytes in two passes, when it is told that the other byte comes first; grey
    with alpha has as many bytes as four bands of 8 bits.
    """
    note_frames(path, picture)
    assert isinstance(picture, ImageFile.ImageFile)
    raw = str(picture.tile[0][3])
    if raw == "LA;16B":
        pairs = _decoded(path, "RGBA").reshape(picture.height, picture.width, 2, 2)
        upper, lower = pairs[..., 0], pairs[..., 1]
    else:
        upper, lower = _decoded(path, raw), _decoded(path, raw.replace("16B", "16L"))
    numbers = upper.astype(np.uint16) << 8 | lower
    picture.load()  # which comes to EXIF data behind the pixels
    return Stored(turned(numbers, orientation(picture)), numbers.shape[2] in (2, 4))


def _decoded(path: str, raw: str) -> Array:
    """The pixels of a PNG, (H, W, B) uint8, as Pillow unpacks the bytes of its rows by that raw mode."""
    with opened(path) as picture:
        assert isinstance(picture, ImageFile.ImageFile)
        picture.tile = [(*tile[:3], raw) for tile in picture.tile]  # type: ignore[misc]  # plain tuples until Pillow 11
        return np.array(picture)


def _by_tifffile(path: str, pages: bool) -> Stored:
    with _tifffile(path).TiffFile(open_file(path) if isinstance(path, Member) else path) as file:
        first = file.pages[0]
        chosen = list(file.pages) if pages and first.samplesperpixel == 1 else [first]
        check_claim(path, (first.imagewidth, first.imagelength), len(chosen) * first.samplesperpixel)
        if len(file.pages) > len(chosen):
            remark("have several frames or pages, of which the first is taken", path)
        if any(page.axes not in ("YX", "YXS", "SYX") or page.shape != first.shape for page in chosen):
            raise ValueError("its pages are not flat, or of different sizes")
        # Bands last, whether they are stored pixel by pixel or one after the other.
        bands = [np.moveaxis(_page(path, page), 0, -1 if page.axes == "SYX" else 0) for page in chosen]
        numbers = np.concatenate([each.reshape(*each.shape[:2], -1) for each in bands], 2)
        if numbers.dtype.kind == "c":
            raise ValueError("its numbers are complex, which nothing says how to show")
        if numbers.dtype == bool:
            numbers = numbers.astype(np.uint8) * np.uint8(255)
        lies = _lies(first)
        return Stored(turned(numbers, lies), any(kind in (1, 2) for kind in first.extrasamples[-1:]), lies)


def _page(path: str, page: Any) -> Array:
    """The numbers of a page of tifffile."""
    try:
        numbers: Array = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise InputError(
            f"picture {path} is compressed by {page.compression.name}, for which tifffile needs imagecodecs; run "
            "`pip install imagecodecs`"
        ) from error
    return numbers


def _lies(page: Any) -> int:
    """The orientation of a page of tifffile."""
    tag = page.tags.get(ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _tifffile(path: str) -> Any:
    try:
        import tifffile
    except ImportError:
        raise InputError(
            f"picture {path} is a TIFF that Pillow does not read, for its bands or bits; tifffile does, run "
            "`pip install 'switchnorm[tiff]'`"
        ) from None
    return tifffile
