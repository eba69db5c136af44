"""What is in the file of a mask: numbers, or colours. Nothing here needs torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import UnidentifiedImageError

from switchnorm.data.files.opening import opened
from switchnorm.data.files.picture_file import DamagedError
from switchnorm.data.files.stored import Stored, is_tiff, read_stored, tiff_pages
from switchnorm.errors import InputError

Array = np.ndarray[Any, Any]

#: The modes of files with one number per pixel, as Pillow calls them.
_NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
#: Of pictures of gray or colour.
_COLORS = ("RGB", "RGBA", "LA")
#: Why masks are not kept in these formats, by Pillow's names.
_LOSSY = {
    "JPEG": "JPEG, which changes labels",
    "MPO": "JPEG, which changes labels",
    "JPEG2000": "JPEG 2000, which may change labels",
    "WEBP": "WebP, which may change labels",
    "AVIF": "AVIF, which changes labels",
}
#: What the names of lossy compressions within a TIFF have in them.
_WITHIN = {"jpeg2000": "JPEG2000", "jp2": "JPEG2000", "jpeg": "JPEG", "webp": "WEBP"}


class MaskContent(NamedTuple):
    """What a mask holds.

    Args:
        numbers: (H, W) integers as they are stored: of one channel, or of a picture whose channels are all the same;
            None for colours.
        colors: (H, W) int32, 0xRRGGBB, of a picture in colour or gray; None where there is one number per pixel.
        palette: (n,) int32, the colour in which each number is shown, where there is one number of up to 8 bits per
            pixel.
        indexed: whether the palette is the file's own.
    """

    numbers: Array | None
    colors: Array | None = None
    palette: Array | None = None
    indexed: bool = False

    def shown(self) -> Array | None:
        """(H, W) int32, 0xRRGGBB: the colour in which each pixel is shown; None of numbers beyond 8 bits."""
        return self.colors if self.palette is None else self.palette[self.numbers]

    def counted(self, *, by_color: bool) -> dict[int | str, int]:
        """How many pixels hold each number, or are shown in each colour, "#804080"."""
        values = self.shown() if by_color else self.numbers
        assert values is not None
        return {hexadecimal(value) if by_color else value: count for value, count in counted(values).items()}


def read_content(path: str) -> MaskContent:
    """What a mask holds.

    Raises:
        DamagedError: no such file, or not a whole picture.
        InputError: a file of another kind than masks can be: a lossy format, several frames, transparent pixels,
            channels of 16 bits, numbers that are not whole; or tifffile is needed and not installed.
    """
    try:
        _check_kind(path)
        return _content(path, read_stored(path))
    except (MemoryError, InputError):
        raise
    except Exception as error:  # as `read_picture`
        reason = "it is missing" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise DamagedError(f"mask {path} ({reason or type(error).__name__})") from error


def hexadecimal(color: int) -> str:
    """0xRRGGBB as "#rrggbb"."""
    return f"#{color:06x}"


def counted(values: Array) -> dict[int, int]:
    """How many pixels of (H, W) integers hold each number, ascending."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        found = counts.nonzero()[0]
        return dict(zip(found.tolist(), counts[found].tolist(), strict=True))
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _check_kind(path: str) -> None:
    try:
        with opened(path) as mask:
            kind, compression, mode = str(mask.format), str(mask.info.get("compression", "")), mask.mode
            frames = getattr(mask, "n_frames", 1)
    except UnidentifiedImageError:
        if not is_tiff(path):
            raise
        kind, mode = "TIFF", None
        frames, compression = tiff_pages(path)
    kind = next((lossy for name, lossy in _WITHIN.items() if name in compression.lower()), kind)
    if kind in _LOSSY:
        raise InputError(f"mask {path} is a {_LOSSY[kind]}; save masks as PNG")
    if frames != 1:
        raise InputError(f"mask {path} holds {frames} pictures; expected one, saved as PNG")
    if mode is not None and mode not in (*_NUMBERS, *_COLORS):
        raise InputError(f"mask {path} is a picture of mode {mode}; expected one number per pixel, or RGB")


def _content(path: str, stored: Stored) -> MaskContent:
    numbers, shades = stored.numbers, stored.shades
    if shades is None and numbers.dtype == np.uint8:
        shades = np.arange(256, dtype=np.uint8)
    if numbers.shape[2] == 1:
        palette = None if shades is None else _packed(shades.reshape(len(shades), -1))
        return MaskContent(_whole(path, numbers[..., 0]), palette=palette, indexed=stored.indexed)
    if shades is None:
        bits = 8 * numbers.dtype.itemsize
        raise InputError(
            f"mask {path} has several channels of {bits} bits; expected one number per pixel, or 8 bits each"
        )
    if stored.alpha:
        _check_opaque(path, numbers[..., -1])
        numbers = numbers[..., :-1]
    if numbers.shape[2] not in (1, 3):
        raise InputError(f"mask {path} has {numbers.shape[2]} channels; expected one number per pixel, or RGB")
    gray = (numbers == numbers[..., :1]).all()
    return MaskContent(numbers[..., 0] if gray else None, _packed(shades[numbers]))


def _packed(colors: Array) -> Array:
    """Red, green and blue, (..., 3 or more) uint8, or gray, (..., 1), as (...) int32, 0xRRGGBB."""
    red, green, blue = (colors[..., band if colors.shape[-1] > 1 else 0].astype(np.int32) for band in range(3))
    packed: Array = red << 16 | green << 8 | blue
    return packed


def _whole(path: str, numbers: Array) -> Array:
    """Numbers (H, W) of any type as uint8, uint16 or int64; of 64 bits without a sign what int64 holds."""
    if numbers.dtype.kind == "f":
        bad = ~(np.isfinite(numbers) & (numbers == np.round(numbers)))
        if bad.any():
            row, column = first_place(bad)
            raise InputError(
                f"mask {path} has {numbers[row, column]:g} in row {row}, column {column}; expected whole numbers"
            )
        return numbers.astype(np.float64).clip(-(2.0**62), 2.0**62).astype(np.int64)
    if numbers.dtype.kind == "u" and numbers.dtype.itemsize <= 2:
        return numbers
    if numbers.dtype == np.uint64:
        numbers = np.minimum(numbers, np.uint64((1 << 63) - 1))
    return numbers.astype(np.int64)


def _check_opaque(path: str, alpha: Array) -> None:
    if (alpha != 255).any():
        row, column = first_place(alpha != 255)
        raise InputError(
            f"mask {path} is transparent in row {row}, column {column} (alpha {alpha[row, column]}); expected a mask "
            "without transparency, and a number or colour of its own for what does not count"
        )


def first_place(where: Array) -> tuple[int, int]:
    """Row and column of the first pixel of (H, W) bool that is true."""
    row, column = np.unravel_index(where.argmax(), where.shape)
    return int(row), int(column)
