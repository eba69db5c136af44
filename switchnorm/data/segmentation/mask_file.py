"""What is in the file of a mask: numbers, or colours. Nothing here needs torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from switchnorm.data.files.opening import opened, orientation, turned
from switchnorm.data.files.picture_file import DamagedError
from switchnorm.errors import InputError

Array = np.ndarray[Any, Any]

#: The modes of files with one number per pixel, as Pillow calls them.
_NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
#: The modes of pictures of gray or colour, and of those with an alpha channel, which is the last.
_COLORS, _WITH_ALPHA = ("RGB", "RGBA", "LA"), ("RGBA", "LA")
#: Why masks are not kept in these formats, by Pillow's names.
_LOSSY = {
    "JPEG": "JPEG, which changes labels",
    "MPO": "JPEG, which changes labels",
    "JPEG2000": "JPEG 2000, which may change labels",
    "WEBP": "WebP, which may change labels",
    "AVIF": "AVIF, which changes labels",
}


class MaskContent(NamedTuple):
    """What a mask holds.

    Args:
        mode: as Pillow calls it.
        numbers: (H, W) integers: of one channel, or of a picture whose channels are all the same; None for colours.
        colors: (H, W) int32, 0xRRGGBB, of a picture in colour or gray; None where there is one number per pixel.
        palette: (n,) int32, the colour of each number, of a paletted file.
    """

    mode: str
    numbers: Array | None
    colors: Array | None = None
    palette: Array | None = None

    def shown(self) -> Array | None:
        """(H, W) int32, 0xRRGGBB: the colour in which each pixel is shown; None of numbers beyond 8 bits."""
        if self.colors is not None:
            return self.colors
        assert self.numbers is not None
        if self.palette is not None:
            padded = np.zeros(256, np.int32)  # what a palette leaves out is black
            padded[: len(self.palette)] = self.palette
            return padded[self.numbers]
        if self.mode == "1":
            return self.numbers * np.int32(0xFFFFFF)
        return self.numbers * np.int32(0x010101) if self.mode == "L" else None

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
            channels of 16 bits, numbers that are not whole.
    """
    try:
        with opened(path) as mask:
            _check_kind(path, mask)
            return _content(path, mask)
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


def _check_kind(path: str, mask: Image.Image) -> None:
    kind = "JPEG" if "jpeg" in str(mask.info.get("compression", "")) else mask.format
    if kind in _LOSSY:
        raise InputError(f"mask {path} is a {_LOSSY[kind]}; save masks as PNG")
    frames = getattr(mask, "n_frames", 1)
    if frames != 1:
        raise InputError(f"mask {path} holds {frames} pictures; expected one, saved as PNG")
    if mask.mode not in (*_NUMBERS, *_COLORS):
        raise InputError(f"mask {path} is a picture of mode {mask.mode}; expected one number per pixel, or RGB")
    layout = getattr(mask, "tile", [])  # how a file stores its channels; of 16 bits Pillow keeps the upper 8
    if mask.mode in _COLORS and any(";16" in str(tile[3]) for tile in layout):
        raise InputError(f"mask {path} has several channels of 16 bits; expected one number per pixel, or 8 bits each")


def _content(path: str, mask: Image.Image) -> MaskContent:
    pixels = turned(np.array(mask), orientation(mask))
    if mask.mode == "F":
        return MaskContent(mask.mode, _whole(path, pixels))
    if mask.mode == "P":
        palette = np.array(mask.getpalette("RGB"), np.int32).reshape(-1, 3)
        return MaskContent(mask.mode, pixels, palette=_packed(palette))
    if mask.mode in _NUMBERS:
        return MaskContent(mask.mode, pixels.astype(np.uint8) if mask.mode == "1" else pixels)
    if mask.mode in _WITH_ALPHA:
        _check_opaque(path, pixels[..., -1])
        pixels = pixels[..., :-1]
    if pixels.shape[-1] == 1:
        pixels = pixels.repeat(3, -1)
    gray = (pixels == pixels[..., :1]).all()
    return MaskContent(mask.mode, pixels[..., 0] if gray else None, _packed(pixels.astype(np.int32)))


def _packed(colors: Array) -> Array:
    """Red, green and blue (..., 3) int32 as (...) int32, 0xRRGGBB."""
    packed: Array = colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]
    return packed


def _whole(path: str, numbers: Array) -> Array:
    bad = ~(np.isfinite(numbers) & (numbers == np.round(numbers)))
    if bad.any():
        row, column = first_place(bad)
        raise InputError(
            f"mask {path} has {numbers[row, column]:g} in row {row}, column {column}; expected whole numbers"
        )
    return numbers.clip(-1, 1 << 30).astype(np.int32)


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
