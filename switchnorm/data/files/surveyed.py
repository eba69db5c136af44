"""A split whose samples can be looked at one by one, and what is seen of one. Needs no torch, nor does looking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


class Remark(NamedTuple):
    """What is wrong with a sample, or worth knowing.

    Args:
        kind: the same words for all samples of which it is true, after "3 pictures": "cannot be read".
        detail: about this one, "" for nothing.
        wrong: whether training stops at it.
    """

    kind: str
    detail: str = ""
    wrong: bool = False


#: Kinds of remarks that several readers make; the last is about whole files, which no training goes on without.
UNREADABLE, MISSING, UNFIT = "cannot be read", "are missing", "do not fit the configuration"


@dataclass(slots=True)
class Facts:
    """What is seen of one sample.

    Args:
        remarks: on it.
        digest: 63 bits that tell its content from others'; -1 where there is none.
        target: the same for what it is labelled with; -1 where there is none.
        format: of the file, "JPEG"; "" where there is no file.
        mode: of its pixels, as Pillow calls it, "RGB".
        bits: of each value in the file.
        size: height and width as people see the picture; None where it cannot be read.
        orientation: what EXIF says of how the pixels lie, 1 to 8; 1 is upright.
        range: least and greatest value in the file, where these are not of 8 bits.
        pixels: how many were read.
        sums: of each channel's values, as training reads them.
        squares: of each channel's squared values.
        counts: how much of each label is in the sample; `IGNORED` is the label of what does not count.
    """

    remarks: list[Remark] = field(default_factory=list)
    digest: int = -1
    target: int = -1
    format: str = ""
    mode: str = ""
    bits: int = 8
    size: tuple[int, int] | None = None
    orientation: int = 1
    range: tuple[float, float] | None = None
    pixels: int = 0
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    counts: dict[int, int] = field(default_factory=dict)

    @property
    def wrong(self) -> Remark | None:
        """The first remark at which training stops."""
        return next((remark for remark in self.remarks if remark.wrong), None)


class Surveyed(ABC):
    """A split whose samples can be looked at one by one.

    Args:
        name: of the split: "train", "val" or "test".
        skips: whether training goes on where a sample cannot be read.
    """

    #: What `Facts.counts` counts: "pictures", of which each has one label, "pixels" or "objects".
    unit: ClassVar[str] = "pictures"
    #: What a sample is labelled with: "labels", "masks", "objects".
    targets: ClassVar[str] = "labels"
    #: Whether looking takes so long that other processes and threads help.
    slow: ClassVar[bool] = True

    def __init__(self, name: str, *, skips: bool = False) -> None:
        self.name = name
        self.skips = skips

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def look(self) -> Callable[[Any], Facts]:
        """What looks at an item, in any process."""

    @abstractmethod
    def item(self, index: int) -> Any:
        """All that `look` needs of a sample, small and without tensors."""

    @abstractmethod
    def title(self, index: int) -> str:
        """What a sample is called."""

    def place(self, index: int) -> str:
        """Where a sample is: the whole path of its file."""
        return self.title(index)

    def bytes_of(self, index: int) -> int:
        """How many bytes are read of a sample, about."""
        return 0

    @abstractmethod
    def picture(self, index: int) -> Image:
        """A sample's picture in red, green and blue, as training reads it.

        Raises:
            InputError: it cannot be read.
        """

    @property
    def scale(self) -> float:
        """The value that is 1 in options such as `mean`."""
        return 255.0

    def label(self, index: int) -> int:
        """The label of a sample that has one."""
        raise NotImplementedError

    def stated(self) -> dict[str, str]:
        """Further rows of the table of splits, by their titles: what is known of the split without looking at files."""
        return {}

    def about_sizes(self, sizes: np.ndarray[Any, Any]) -> Iterable[str]:
        """Sentences on what training does to pictures of such sizes, (N, 2) height and width."""
        return ()
