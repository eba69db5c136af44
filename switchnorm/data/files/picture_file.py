"""A picture's file, of whatever kind, as the pixels that networks are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from switchnorm.data.files.opening import Sizes, opened, sizes_of, upright
from switchnorm.data.files.remarks import remark
from switchnorm.data.files.stored import is_plain, is_tiff, note_frames, read_stored, tiff_sizes
from switchnorm.data.resizing import Pixelled
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.data.picture import Picture

Array = np.ndarray[Any, Any]


class DamagedError(Exception):
    """A picture that cannot be read; the message is its path and why."""


class MisfitError(DamagedError):
    """A file that is whole and does not fit another; the message is a sentence."""


def unreadable(error: DamagedError) -> InputError:
    """The same for whoever has the data: what is wrong, and what to do."""
    if isinstance(error, MisfitError):
        return InputError(f"{error}; mend it, or set on_damaged to 'skip'")
    return InputError(f"cannot read {error}; bring it, or set on_damaged to 'skip'")


@dataclass(frozen=True)
class Pixels:
    """What pictures become: 8 bits in some channels.

    Args:
        bands: which bands of the files, from 0; None for red, green and blue, which grey is repeated in and other
            colours are converted to, and for which alpha is dropped.
        range: the numbers that become 0 and 255, of files with more than 8 bits, and also of those with 8 where it lies
            in 0..255 and not in 0..1, which are fractions. None for files of 8 bits alone, whose numbers stay.
    """

    bands: tuple[int, ...] | None = None
    range: tuple[float, float] | None = None

    @property
    def channels(self) -> int:
        """How many channels the pictures have."""
        return 3 if self.bands is None else len(self.bands)

    @property
    def stretches_bytes(self) -> bool:
        """Whether numbers of 8 bits change too."""
        return self.range is not None and self.range != (0, 255) and self.range[0] >= 0 and 1 < self.range[1] <= 255


def read_picture(path: str, pixels: Pixels = Pixels()) -> Picture:
    """The picture of a file as datasets take it: as `read_pixels`, (C, H, W) uint8 being a tensor."""
    picture = read_pixels(path, pixels)
    if isinstance(picture, Image.Image):
        return picture
    import torch  # which takes seconds, and looking at photographs does without

    return torch.from_numpy(picture)


def read_pixels(path: str, pixels: Pixels = Pixels()) -> Pixelled:
    """The picture of a file, the right way up, whatever kind of file it is and whatever its name says.

    What is lost on the way, alpha, further frames and numbers out of the range, is remarked.

    Args:
        path: of the file.
        pixels: what it becomes.

    Returns:
        A picture in red, green and blue; or (C, H, W) uint8 where it has not three channels.

    Raises:
        DamagedError: no such file, not a whole picture, or numbers that are not finite.
        InputError: a file that is whole, but has not the bands or the depth that are asked for, or needs tifffile.
    """
    with _named(path):
        try:
            with opened(path) as file:
                if is_plain(path, file) and pixels.bands is None:
                    note_frames(path, file)
                    return _stretched(path, _colors(path, file), pixels)
        except UnidentifiedImageError:
            if not is_tiff(path):
                raise
        numbers = _scaled(path, _chosen(path, pixels), pixels)
        if numbers.shape[2] == 1 and pixels.bands is None:
            numbers = numbers.repeat(3, 2)
        if numbers.shape[2] == 3:
            return Image.fromarray(np.ascontiguousarray(numbers))
        return np.ascontiguousarray(numbers.transpose(2, 0, 1))


def in_memory(picture: Image.Image, title: str, pixels: Pixels) -> Image.Image:
    """A picture of 8 bits that was opened already, as `read_pixels` reads its file, without bands.

    Args:
        picture: of Pillow.
        title: what errors and remarks call it.
        pixels: what it becomes.

    Raises:
        DamagedError: it was closed, or its file is cut off.
        InputError: it has more than 8 bits.
    """
    if picture.mode.startswith(("I", "F")):
        raise InputError(f"{title} has mode {picture.mode!r}; expected 8 bits: scale it, or give its file")
    with _named(title):
        return _stretched(title, _colors(title, picture), pixels)


def picture_sizes(path: str) -> Sizes:
    """Height and width of a picture, the right way up and as it is stored, by the head of its file.

    Raises:
        DamagedError, InputError: as `read_picture`, as far as the head says it.
    """
    with _named(path):
        try:
            with opened(path) as file:
                return sizes_of(path, file)
        except UnidentifiedImageError:
            if not is_tiff(path):
                raise
            return tiff_sizes(path)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Turn what decoders raise into a `DamagedError` with the file's path and the reason."""
    try:
        yield
    except (MemoryError, InputError):
        raise
    except Exception as error:  # the decoders of damaged files raise nearly anything
        said = " ".join(str(error).split()).replace(f" {path!r}", "")
        reason = "it is missing" if isinstance(error, FileNotFoundError) else said
        raise DamagedError(f"{path} ({reason or type(error).__name__})") from error


def _colors(path: str, file: Image.Image) -> Image.Image:
    """An opened file of 8 bits in red, green and blue."""
    picture = upright(file)
    if picture.mode == "RGB":
        return picture
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if np.asarray(picture.getchannel("A")).min() < 255:
            _note_alpha(path)
    return picture.convert("RGB")


def _stretched(path: str, picture: Image.Image, pixels: Pixels) -> Image.Image:
    """A picture of 8 bits, by the range where it is one of these."""
    return Image.fromarray(_scaled(path, np.asarray(picture), pixels)) if pixels.stretches_bytes else picture


def _note_alpha(path: str) -> None:
    remark("have transparent pixels, whose colours are taken as if they were opaque", path)


def _chosen(path: str, pixels: Pixels) -> Array:
    """The bands that are asked for, (H, W, C) in the file's own numbers."""
    bands = pixels.bands
    numbers, alpha, *_ = read_stored(path, pages=bands is not None and max(bands) > 0).shown()
    count = numbers.shape[2]
    if bands is None:
        colors = count - alpha
        if colors not in (1, 3):
            raise InputError(
                f"picture {path} has {count} bands, of which nothing says what they show; say which to take with "
                f"data.bands, as in {list(range(count))} for all"
            )
        if alpha and (numbers[..., -1] < numbers[..., -1].max()).any():
            _note_alpha(path)
        return numbers[..., :colors]
    if max(bands) >= count:
        raise InputError(
            f"picture {path} has {count} band{'s' if count > 1 else ''}, numbered from 0, and data.bands has "
            f"{max(bands)}; the last is {count - 1}"
        )
    return numbers[..., list(bands)]


def _scaled(path: str, numbers: Array, pixels: Pixels) -> Array:
    """Numbers of any type as those of 8 bits, by the range."""
    if numbers.dtype == np.uint8 and not pixels.stretches_bytes:
        return numbers
    if numbers.dtype.kind == "f" and not (finite := np.isfinite(numbers)).all():
        raise ValueError(f"{finite.size - int(finite.sum())} of its numbers are not finite")
    lowest, highest = numbers.min(), numbers.max()
    if pixels.range is None:
        raise InputError(
            f"picture {path} has {8 * numbers.dtype.itemsize} bits, with numbers from {lowest:g} to {highest:g}, and "
            "nothing says which are black and white; say it with data.range, as in [0, 4095]"
        )
    low, high = pixels.range
    if lowest < low or highest > high:
        remark(
            f"have numbers outside of data.range [{low:g}, {high:g}], which are clipped",
            f"{path} ({lowest:g} to {highest:g})",
        )
    # In 32 bits 16 are exact; wider numbers are taken in 64.
    wide = numbers.astype(np.float32 if numbers.dtype.itemsize <= 2 else np.float64)
    return np.rint((wide.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)
