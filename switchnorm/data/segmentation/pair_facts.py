"""What is seen of a picture with its mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from switchnorm.data.files.opening import sides
from switchnorm.data.files.picture_facts import digest, file_bytes, read_into, readable
from switchnorm.data.files.picture_file import DamagedError, Pixels
from switchnorm.data.files.surveyed import Facts, Remark, Surveyed
from switchnorm.data.segmentation.labels import IGNORED
from switchnorm.data.segmentation.legend import Legend
from switchnorm.data.segmentation.mask_file import counted
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.data.files.pairs import Pairs
    from switchnorm.data.segmentation.sizes import TrainingSizes

#: The kinds of remarks on masks.
BAD_MASK, FOREIGN, OTHER_SIZE, STORED, ALL_VOID = (
    "have a mask that cannot be read",
    "have a mask that means nothing",
    "have a mask of another size",
    "have a mask that fits only the pixels as they are stored, and not as EXIF turns them",
    "have no pixel that counts",
)


class PairItem(NamedTuple):
    """The files of a picture and its mask, and the size that a list states."""

    picture: str
    mask: str
    stated: tuple[int, int] | None


def look_at_pair(item: PairItem, pixels: Pixels, legend: Legend, skips: bool) -> Facts:
    """What is seen of a picture with a mask.

    Args:
        item: the two files.
        pixels: what the picture becomes.
        legend: what the pixels of masks mean.
        skips: whether training goes on without one that cannot be read.
    """
    facts = Facts()
    read_into(facts, item.picture, pixels, skips)
    if item.stated is not None and facts.size is not None and item.stated not in _sizes(facts):
        detail = f"{sides(facts.size)} where the list states {sides(item.stated)}"
        facts.remarks.append(Remark("are of another size than the list states", detail, wrong=not skips))
    try:
        with open(item.mask, "rb") as file:
            facts.target = digest(file.read())
        labels = legend.labels(item.mask)
    except FileNotFoundError:
        facts.remarks.append(Remark(BAD_MASK, "it is missing", wrong=not skips))
    except (OSError, DamagedError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"mask {item.mask} (").removesuffix(")")
        facts.remarks.append(Remark(BAD_MASK, reason, wrong=not skips))
    except InputError as error:  # at which training stops in any case
        facts.remarks.append(Remark(FOREIGN, str(error), wrong=True))
    else:
        _note_labels(facts, labels, skips)
    return facts


def _note_labels(facts: Facts, labels: np.ndarray[Any, Any], skips: bool) -> None:
    if facts.size is not None and labels.shape != facts.size:
        kind = STORED if labels.shape in _sizes(facts) else OTHER_SIZE
        facts.remarks.append(Remark(kind, f"{sides(labels.shape)}, its picture {sides(facts.size)}", wrong=not skips))
    facts.counts = counted(labels)
    if set(facts.counts) <= {IGNORED}:
        facts.remarks.append(Remark(ALL_VOID))


def _sizes(facts: Facts) -> tuple[tuple[int, int] | None, ...]:
    """Of the picture the right way up, and as it is stored."""
    assert facts.size is not None
    return (facts.size, facts.size[::-1]) if facts.orientation >= 5 else (facts.size,)


class SurveyedPairs(Surveyed):
    """Pictures with masks.

    Args:
        name, skips: as `Surveyed`.
        pairs: the pictures and masks.
        legend: what the pixels of masks mean.
        pixels: what pictures become.
        sizes: to which training resizes them; None for the split that it does not read.
    """

    unit: ClassVar[str] = "pixels"
    targets: ClassVar[str] = "masks"

    def __init__(
        self,
        name: str,
        pairs: Pairs,
        legend: Legend,
        pixels: Pixels,
        sizes: TrainingSizes | None,
        *,
        skips: bool = False,
    ) -> None:
        super().__init__(name, skips=skips)
        self.pairs = pairs
        self.legend = legend
        self.pixels = pixels
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def look(self) -> Callable[[Any], Facts]:
        """As `Surveyed`."""
        return partial(look_at_pair, pixels=self.pixels, legend=self.legend, skips=self.skips)

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
                f"{small:,} of {len(sizes):,} can be smaller than the windows of {sides(self.sizes.crop)} when they "
                "are resized; what is beside them does not count"
            )

    def _pads(self, size: list[int]) -> bool:
        assert self.sizes is not None
        return self.sizes.may_pad((size[0], size[1]))
