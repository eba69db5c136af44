"""What is seen of a picture with its mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from switchnorm.data.files.picture_facts import digest, file_bytes, read_into, readable
from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.files.surveyed import Facts, Remark, Surveyed
from switchnorm.data.segmentation.labels import IGNORED, Numbering

if TYPE_CHECKING:
    from switchnorm.data.files.pairs import Pairs
    from switchnorm.data.segmentation.sizes import TrainingSizes

_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")

#: The kinds of remarks on masks.
BAD_MASK, OTHER_SIZE, STORED, UNKNOWN, ALL_VOID = (
    "have a mask that cannot be read",
    "have a mask of another size",
    "have a mask that fits only the pixels as they are stored, and not as EXIF turns them",
    "have numbers in their mask that mean nothing",
    "have no pixel that counts",
)


class PairItem(NamedTuple):
    """The files of a picture and its mask, and the size that a list states."""

    picture: str
    mask: str
    stated: tuple[int, int] | None


def look_at_pair(item: PairItem, pixels: Pixels, numbering: Numbering, skips: bool) -> Facts:
    """What is seen of a picture with a mask.

    Args:
        item: the two files.
        pixels: what the picture becomes.
        numbering: what the mask's numbers mean.
        skips: whether training goes on without one that cannot be read.
    """
    facts = Facts()
    read_into(facts, item.picture, pixels, skips)
    if item.stated is not None and facts.size is not None and item.stated not in _sizes(facts):
        detail = f"{_by(facts.size)} where the list states {_by(item.stated)}"
        facts.remarks.append(Remark("are of another size than the list states", detail, wrong=True))
    try:
        with open(item.mask, "rb") as file:
            facts.target = digest(file.read())
        numbers = _numbers(item.mask)
    except Exception as error:  # as `read_picture`
        missing = isinstance(error, FileNotFoundError)
        reason = "the mask is missing" if missing else " ".join(str(error).split())
        facts.remarks.append(Remark(BAD_MASK, reason, wrong=not skips))
        return facts
    _note_size(facts, numbers.shape)
    _note_numbers(facts, numbers, numbering)
    return facts


def _sizes(facts: Facts) -> tuple[tuple[int, int] | None, ...]:
    """Of the picture the right way up, and as it is stored."""
    assert facts.size is not None
    return (facts.size, facts.size[::-1]) if facts.orientation >= 5 else (facts.size,)


def _numbers(path: str) -> np.ndarray[Any, Any]:
    """The numbers of a mask, (H, W)."""
    with Image.open(path) as mask:
        if mask.mode not in _ONE_CHANNEL:
            raise ValueError(f"a picture of mode {mask.mode}; expected one number per pixel")
        return np.array(mask)


def _note_size(facts: Facts, size: tuple[int, ...]) -> None:
    if facts.size is None or size == facts.size:
        return
    kind = STORED if size in _sizes(facts) else OTHER_SIZE
    facts.remarks.append(Remark(kind, f"{_by(size)}, its picture {_by(facts.size)}", wrong=True))


def _note_numbers(facts: Facts, numbers: np.ndarray[Any, Any], numbering: Numbering) -> None:
    labels = {number: label for label, number in enumerate(numbering.classes)}
    labels |= dict.fromkeys(numbering.ignored, IGNORED)
    for number, pixels in _counted(numbers):
        label = labels.get(number)
        if label is None:
            facts.unknown[number] = pixels
        else:
            facts.counts[label] = facts.counts.get(label, 0) + pixels
    if facts.unknown:
        facts.remarks.append(Remark(UNKNOWN, ", ".join(map(str, sorted(facts.unknown)[:5])), wrong=True))
    elif set(facts.counts) <= {IGNORED}:
        facts.remarks.append(Remark(ALL_VOID))


def _counted(numbers: np.ndarray[Any, Any]) -> Iterable[tuple[int, int]]:
    """Each number and how often it is there."""
    if numbers.dtype.itemsize == 1:
        counts = np.bincount(numbers.astype(np.uint8).ravel(), minlength=1)
        values = counts.nonzero()[0]
        return zip(values.tolist(), counts[values].tolist(), strict=True)
    values, counts = np.unique(numbers, return_counts=True)
    return zip(values.tolist(), counts.tolist(), strict=True)


def _by(size: Any) -> str:
    return f"{size[1]}x{size[0]}"


class SurveyedPairs(Surveyed):
    """Pictures with masks.

    Args:
        name, skips: as `Surveyed`.
        pairs: the pictures and masks.
        numbering: of the masks.
        pixels: what pictures become.
        sizes: to which training resizes them; None for the split that it does not read.
    """

    unit: ClassVar[str] = "pixels"
    targets: ClassVar[str] = "masks"

    def __init__(
        self,
        name: str,
        pairs: Pairs,
        numbering: Numbering,
        pixels: Pixels,
        sizes: TrainingSizes | None,
        *,
        skips: bool = False,
    ) -> None:
        super().__init__(name, skips=skips)
        self.pairs = pairs
        self.numbering = numbering
        self.pixels = pixels
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def look(self) -> Callable[[Any], Facts]:
        """As `Surveyed`."""
        return partial(look_at_pair, pixels=self.pixels, numbering=self.numbering, skips=self.skips)

    def item(self, index: int) -> PairItem:
        """As `Surveyed`."""
        stated = None if self.pairs.stated is None else tuple(self.pairs.stated[index].tolist())
        return PairItem(self.pairs.pictures[index], self.pairs.masks[index], stated)

    def title(self, index: int) -> str:
        """The path of the picture below the split's folder."""
        return self.pairs.pictures.name(index)

    def place(self, index: int) -> str:
        """The whole path of the picture."""
        return self.pairs.pictures[index]

    def bytes_of(self, index: int) -> int:
        """The size of the two files."""
        return file_bytes(self.pairs.pictures[index]) + file_bytes(self.pairs.masks[index])

    def picture(self, index: int) -> Image.Image:
        """As `Surveyed`."""
        return readable(self.pairs.pictures[index], self.pixels)

    def about_sizes(self, sizes: np.ndarray[Any, Any]) -> Iterable[str]:
        """How many pictures are padded."""
        if self.sizes is None or self.sizes.crop is None:
            return
        distinct, counts = np.unique(sizes, axis=0, return_counts=True)
        small = sum(count for size, count in zip(distinct.tolist(), counts.tolist(), strict=True) if self._pads(size))
        if small:
            yield (
                f"{small:,} of {len(sizes):,} can be smaller than the windows of {_by(self.sizes.crop)} when they are "
                "resized; what is beside them does not count"
            )

    def _pads(self, size: list[int]) -> bool:
        assert self.sizes is not None
        return self.sizes.may_pad((size[0], size[1]))
