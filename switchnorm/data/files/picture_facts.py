"""What is seen of a picture's file: by its header, and by reading it as training does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from switchnorm.data.files.members import open_file, size_of_file
from switchnorm.data.files.opening import opened, orientation
from switchnorm.data.files.picture_file import DamagedError, Pixels, read_picture
from switchnorm.data.files.remarks import gathered
from switchnorm.data.files.stored import is_plain, read_stored
from switchnorm.data.files.surveyed import MISSING, UNFIT, UNREADABLE, Facts, Remark, Surveyed
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.data.files.listing import Listing
    from switchnorm.data.picture import Picture

_VALUES = np.arange(256)


class PictureItem(NamedTuple):
    """A picture's file, and its label."""

    path: str
    label: int


def look_at_picture(item: PictureItem, pixels: Pixels, skips: bool) -> Facts:
    """What is seen of a picture with a label.

    Args:
        item: the picture.
        pixels: what it becomes.
        skips: whether training goes on without one that cannot be read.
    """
    facts = Facts(target=item.label, counts={item.label: 1})
    read_into(facts, item.path, pixels, skips)
    return facts


def read_into(facts: Facts, path: str, pixels: Pixels, skips: bool) -> None:
    """Note all that is seen of a picture's file: in its head, and by reading it as training does."""
    try:
        with open_file(path) as file:
            facts.digest = digest(file.read())
    except FileNotFoundError:
        facts.remarks.append(Remark(MISSING, wrong=not skips))
        return
    except OSError as error:
        facts.remarks.append(Remark(UNREADABLE, str(error.strerror), wrong=not skips))
        return
    _note_header(facts, path)
    try:
        with gathered() as remarked:
            picture = read_picture(path, pixels)
    except DamagedError as error:
        reason = str(error).removeprefix(f"{path} (").removesuffix(")")
        facts.remarks.append(Remark(UNREADABLE, reason, wrong=not skips))
        return
    except InputError as error:
        facts.remarks.append(Remark(UNFIT, str(error).removeprefix(f"picture {path} "), wrong=True))
        return
    facts.remarks += [Remark(what, file.removeprefix(path).strip(" :,()")) for what, file in remarked]
    _note_values(facts, picture)


def _note_values(facts: Facts, picture: Picture) -> None:
    if isinstance(picture, Image.Image):
        facts.size = (picture.height, picture.width)
        bands = np.array(picture.histogram()).reshape(-1, 256)
    else:
        facts.size = (picture.shape[1], picture.shape[2])
        bands = np.stack([np.bincount(band.numpy().ravel(), minlength=256) for band in picture])
    facts.pixels = facts.size[0] * facts.size[1]
    facts.sums = tuple((bands @ _VALUES).tolist())
    facts.squares = tuple((bands @ _VALUES**2).tolist())


def digest(content: bytes) -> int:
    """63 bits that tell contents apart: among a million files the chance that two share them is below 1e-6."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1


def _note_header(facts: Facts, path: str) -> None:
    plain = False
    with suppress(Exception), opened(path) as picture:  # what Pillow does not know has no head for it
        facts.format, facts.mode, facts.bits = str(picture.format), picture.mode, _bits(picture)
        facts.orientation = orientation(picture)
        plain = is_plain(path, picture)
    if not plain:
        with suppress(Exception), gathered():  # what cannot be read is said by reading it for training
            _note_numbers(facts, path)


def _note_numbers(facts: Facts, path: str) -> None:
    """Of a file of which Pillow does not give every band in the bits that it has."""
    numbers, _, lies, _ = read_stored(path).shown()
    if not facts.mode:
        facts.format, facts.orientation = "TIFF", lies
    if not facts.mode or Image.getmodebands(facts.mode) != numbers.shape[2]:
        facts.mode = f"{numbers.shape[2]} bands"
    held = 8 * numbers.dtype.itemsize
    facts.bits = held if facts.bits == 8 else min(facts.bits, held)  # 8 and 32 as far as Pillow says it
    if numbers.dtype != np.uint8 and np.isfinite(numbers).any():
        facts.range = float(np.nanmin(numbers)), float(np.nanmax(numbers))


def _bits(picture: Image.Image) -> int:
    """Of each value in the file, which Pillow may cut to 8: "RGB;16B" is how the decoder calls 16."""
    coded = re.search(r";(\d+)", str([part[3] for part in getattr(picture, "tile", ())]))
    if coded is not None:
        return int(coded[1])
    return {"1": 1, "I": 32, "F": 32}.get(picture.mode, 16 if "16" in picture.mode else 8)


class SurveyedPictures(Surveyed):
    """The pictures of a listing.

    Args:
        name, skips: as `Surveyed`.
        listing: the pictures with their labels.
        pixels: what they become.
        short_side: to which training resizes them before it crops.
    """

    def __init__(self, name: str, listing: Listing, pixels: Pixels, short_side: int, *, skips: bool) -> None:
        super().__init__(name, skips=skips)
        self.listing = listing
        self.pixels = pixels
        self.short_side = short_side

    def __len__(self) -> int:
        return len(self.listing)

    @property
    def look(self) -> Callable[[Any], Facts]:
        """As `Surveyed`."""
        return partial(look_at_picture, pixels=self.pixels, skips=self.skips)

    def item(self, index: int) -> PictureItem:
        """As `Surveyed`."""
        return PictureItem(self.listing.paths[index], int(self.listing.labels[index]))

    def title(self, index: int) -> str:
        """The path below the split's folder."""
        return self.listing.paths.name(index)

    def place(self, index: int) -> str:
        """The whole path."""
        return self.listing.paths[index]

    def bytes_of(self, index: int) -> int:
        """The size of the file; 0 where there is none."""
        return file_bytes(self.listing.paths[index])

    def picture(self, index: int) -> Image.Image:
        """As `Surveyed`."""
        return readable(self.listing.paths[index], self.pixels)

    def label(self, index: int) -> int:
        """As `Surveyed`."""
        return int(self.listing.labels[index])

    def about_sizes(self, sizes: np.ndarray[Any, Any]) -> Iterable[str]:
        """How many pictures are enlarged."""
        small = int((sizes.min(1) < self.short_side).sum())
        if small:
            yield f"{small:,} of {len(sizes):,} are enlarged: their shorter side is below {self.short_side}"


def readable(path: str, pixels: Pixels) -> Image.Image:
    """A picture as training reads it, to be looked at; raise `InputError` where it cannot be read."""
    from switchnorm.data.picture import shown  # which imports torch

    try:
        with gathered():
            return shown(read_picture(path, pixels))
    except DamagedError as error:
        raise InputError(f"cannot read {error}") from error


def file_bytes(path: str) -> int:
    """The size of a file; 0 where there is none."""
    try:
        return size_of_file(path)
    except OSError:
        return 0
