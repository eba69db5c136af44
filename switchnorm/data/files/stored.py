"""The numbers in the file of a picture or a mask as it stores them, and what each is shown as.

Pillow gives shades: it stretches numbers of few bits to 8, turns those around whose white is zero, and keeps 8 of 16
bits where it has no mode for them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from switchnorm.data.files.members import Member, open_file
from switchnorm.data.files.opening import ORIENTATION, Sizes, check_claim, opened, orientation, turned, upright
from switchnorm.data.files.remarks import remark
from switchnorm.errors import InputError

Array = np.ndarray[Any, Any]

#: Tags of TIFF.
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _KIND = 258, 259, 262, 277, 339
_WHITE_IS_ZERO = 0  # of `_PHOTOMETRIC`
_UNSIGNED, _SIGNED = 1, 2  # of `_KIND`
_WITH_ALPHA = ("LA", "PA", "RGBA")
#: Where the codestream of a JPEG 2000 begins, and how far behind it says how many components it has.
_CODESTREAM, _COMPONENTS = b"\xff\x4f\xff\x51", 40


class Stored(NamedTuple):
    """What a file holds.

    Args:
        numbers: (H, W, B), the right way up, in the type that the file has; of a palette the indices. Of 1 bit, white
            is 1, whatever the format calls it.
        alpha: whether the last band says how opaque the others are.
        orientation: how the picture lies in the file, 1 to 8, where Pillow cannot say it.
        shades: what each number is shown as, where that is another: (n,) uint8, or (n, 3 or 4) by a palette, of which
            the fourth band is alpha.
    """

    numbers: Array
    alpha: bool
    orientation: int = 1
    shades: Array | None = None

    @property
    def indexed(self) -> bool:
        """Whether the file has a palette."""
        return self.shades is not None and self.shades.ndim == 2

    def shown(self) -> Stored:
        """The same with the numbers that each is shown as."""
        if self.shades is None:
            return self
        if self.shades.ndim == 1:
            return Stored(self.shades[self.numbers], self.alpha, self.orientation)
        return Stored(self.shades[self.numbers[..., 0]], self.shades.shape[1] == 4, self.orientation)


def is_plain(path: str, picture: Image.Image) -> bool:
    """Whether Pillow gives every band of a file, opened as that picture, in the 8 bits that it has there."""
    if picture.mode.startswith(("I", "F")):
        return False
    if picture.format != "TIFF":
        return _depth(path, picture).bits <= 8
    bits, samples, kind = (_tag(picture, tag) for tag in (_BITS, _SAMPLES, _KIND))
    return bits <= 8 and samples <= len(picture.getbands()) and kind == _UNSIGNED


def read_stored(path: str, *, pages: bool = False) -> Stored:
    """All numbers of a file.

    Args:
        path: of the file.
        pages: whether the pages of a TIFF that has one band in each are its bands; otherwise the first is taken.

    Raises:
        InputError: tifffile is needed and not installed, or Pillow gives other numbers and nothing here the right ones.
        Exception: whatever the decoders raise for a damaged file.
    """
    try:
        with opened(path) as picture:
            if picture.format == "PPM" and picture.mode in ("L", "I", "RGB"):
                return _netpbm(path, picture)
            if picture.format == "PNG" and not is_plain(path, picture) and not picture.mode.startswith("I"):
                return _png(path, picture)
            _check_uncut(path, picture)
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


def tiff_pages(path: str) -> tuple[int, str]:
    """How many pages has a TIFF that Pillow does not know, and how the first is compressed; errors as `read_stored`."""
    with _tifffile(path).TiffFile(open_file(path) if isinstance(path, Member) else path) as file:
        return len(file.pages), str(getattr(file.pages[0].compression, "name", ""))


def note_frames(path: str, picture: Image.Image) -> None:
    """Remark that a file holds more than the one picture that is taken of it."""
    try:
        # Cameras hide previews behind their JPEGs, whose format is then called MPO.
        several = picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1
    except Exception:  # what lies behind the first picture is damaged, and is not needed
        return
    if several:
        remark("have several frames or pages, of which the first is taken", path)


def _tag(picture: Image.Image, tag: int, absent: int = 1) -> int:
    """A tag of an opened TIFF, the greatest where it has a number for each sample; 1 is what most are where absent."""
    value = picture.tag_v2.get(tag, absent)  # type: ignore[attr-defined]  # of TiffImageFile
    return int(max(value)) if isinstance(value, tuple) else int(value)


class _Depth(NamedTuple):
    """How many bits the numbers of a file have, and whether a sign."""

    bits: int
    signed: bool = False


def _depth(path: str, picture: Image.Image) -> _Depth:
    """The depth of an opened file of another format than TIFF, which Pillow does not keep."""
    if picture.format == "PPM":
        return _Depth(_greatest(picture).bit_length())
    if picture.format not in ("PNG", "SGI", "JPEG2000"):
        return _Depth(8)
    with open_file(path) as file:
        if picture.format == "JPEG2000":
            content = file.read()
            place = content.index(_CODESTREAM) + _COMPONENTS
            first, count = place + 2, int.from_bytes(content[place : place + 2], "big")
            sizes = content[first : first + 3 * count : 3]
            return _Depth(max(size & 127 for size in sizes) + 1, any(size & 128 for size in sizes))
        # PNG has it behind the signature, length and name of the first chunk, width and height; SGI has bytes.
        place, unit = (24, 1) if picture.format == "PNG" else (3, 8)
        file.seek(place)
        return _Depth(unit * file.read(1)[0])


def _check_uncut(path: str, picture: Image.Image) -> None:
    """Refuse an opened file of which Pillow would give other numbers than it has, and nobody else any."""
    if picture.format in ("SGI", "JPEG2000") and not is_plain(path, picture):
        bits, signed = _depth(path, picture)
        if signed or bits > 16 or not picture.mode.startswith("I"):
            raise InputError(
                f"picture {path} is a {picture.format} of {bits} bits{' with a sign' if signed else ''}, whose numbers "
                "Pillow changes; save it as PNG or TIFF"
            )


def _greatest(picture: Image.Image) -> int:
    """The number that is white in an opened PNM, by its head."""
    assert isinstance(picture, ImageFile.ImageFile)
    codec, _, _, settings = picture.tile[0]
    if codec == "raw":
        return 65535 if picture.mode == "I" else 255
    return int(settings[1]) if isinstance(settings, tuple) and picture.mode != "1" else 1


def _netpbm(path: str, picture: Image.Image) -> Stored:
    """A PGM or PPM, whose numbers Pillow stretches from 0 to 255, or to 65535, by the greatest that the head allows."""
    assert isinstance(picture, ImageFile.ImageFile)
    codec, _, start, _ = picture.tile[0]
    greatest, shape = _greatest(picture), (picture.height, picture.width, len(picture.getbands()))
    kind, count = np.dtype(np.uint8 if greatest <= 255 else ">u2"), shape[0] * shape[1] * shape[2]
    with open_file(path) as file:
        file.seek(start)
        if codec == "ppm_plain":
            words = re.sub(rb"#[^\r\n]*", b" ", file.read()).split()[:count]
            values, most = [int(word) for word in words], int(np.iinfo(kind).max)
            if not all(0 <= value <= most for value in values):
                raise ValueError(f"it has numbers outside of 0 to {most}, which its head rules out")
            found = np.array(values, kind)
        else:
            content = file.read(count * kind.itemsize)
            found = np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)
    if len(found) < count:
        raise ValueError(f"it is cut off: {len(found)} of {count} numbers are there")
    shades = None if greatest >= 255 else np.rint(np.arange(256) / greatest * 255).clip(max=255).astype(np.uint8)
    return Stored(found.astype(kind.newbyteorder("=")).reshape(shape), False, shades=shades)


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
        return _numbers(path, picture)
    bands, count = [], getattr(picture, "n_frames", 1)
    check_claim(path, picture.size, count)
    for page in range(count):
        picture.seek(page)
        bands.append(_numbers(path, picture).shown().numbers)
    if len({band.shape for band in bands}) > 1:
        raise ValueError("its pages are of different sizes, and so no bands of one picture")
    return Stored(np.concatenate(bands, 2), alpha=False)


def _numbers(path: str, picture: Image.Image) -> Stored:
    """Of the frame at which an opened file stands."""
    shown = upright(picture)
    if shown.mode == "PA":
        shown = shown.convert("RGBA")
    numbers, shades = np.asarray(shown), _shades(picture, shown)
    if numbers.dtype == bool:
        numbers = numbers.astype(np.uint8)
    elif picture.format == "TIFF":  # of which Pillow keeps the bits and not what they mean
        kind = _tag(picture, _KIND)
        if kind == _SIGNED and numbers.dtype == np.uint8:
            numbers = numbers.view(np.int8)
        elif kind == _UNSIGNED and numbers.dtype == np.int32:
            numbers = numbers.view(np.uint32)
        elif shades is not None and shades.ndim == 1:
            stored = np.zeros(256, np.uint8)
            stored[shades] = np.arange(len(shades))
            numbers = stored[numbers]
    elif picture.format == "JPEG2000" and numbers.dtype == np.uint16:  # which Pillow shifts to 16 bits
        numbers = numbers >> (16 - _depth(path, picture).bits)
    return Stored(numbers.reshape(*numbers.shape[:2], -1), shown.mode in _WITH_ALPHA, shades=shades)


def _shades(picture: Image.Image, shown: Image.Image) -> Array | None:
    """As which Pillow shows the numbers of a file, of which it was opened and turned; see `Stored`."""
    if shown.mode == "P":
        ramp = shown.resize((256, 1), Image.Resampling.NEAREST)
        ramp.putdata(range(256))
        palette: Array = np.asarray(ramp.convert("RGBA" if "transparency" in shown.info else "RGB"))[0]
        return palette
    if shown.mode == "1":
        return np.array([0, 255], np.uint8)
    if picture.format != "TIFF" or shown.mode != "L":
        return None
    greatest = (1 << _tag(picture, _BITS)) - 1
    white_is_zero = _tag(picture, _PHOTOMETRIC, absent=_WHITE_IS_ZERO) == _WHITE_IS_ZERO  # as Pillow takes it
    if greatest == 255 and not white_is_zero:
        return None
    levels = (np.arange(greatest + 1) * (255 // greatest)).astype(np.uint8)
    return levels[::-1] if white_is_zero else levels


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
        shades = None
        if numbers.dtype == bool:
            numbers = (numbers != (first.photometric == _WHITE_IS_ZERO)).astype(np.uint8)
            shades = np.array([0, 255], np.uint8)
        lies = _lies(first)
        return Stored(turned(numbers, lies), any(kind in (1, 2) for kind in first.extrasamples[-1:]), lies, shades)


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
