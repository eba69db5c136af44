"""Any pictures with masks."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from switchnorm.data.datasets.options import check_between
from switchnorm.data.segmentation.labels import IGNORED, Numbering
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset
from switchnorm.errors import InputError

_FILE = "classes.txt"
_GREATEST = 65535  # of 16 bits


@dataclass(frozen=True)
class Masks(SegmentationDataset):
    """Pictures with masks of the same names in folders, and classes.txt, which names a class in each line.

    The pictures of split train are sought in train with masks in trainannot; in images/train with masks in
    annotations/train, masks/train or labels/train; and in train/images with masks in train/annotations, train/masks or
    train/labels. Likewise val and test, also called training, validation and testing. A mask is a PNG, BMP or TIFF with
    one number per pixel, of 8 or 16 bits or paletted.

    Args:
        ignore: numbers of pixels that do not count; the first one is written for them.
        first_label: the number of the first class: 0, or 1, where 0 is unlabelled and does not count.
    """

    ignore: list[int] = field(default_factory=lambda: [IGNORED])
    first_label: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_label not in (0, 1):
            raise InputError(f"first_label must be 0 or 1, got {self.first_label}")
        for number in self.ignore:
            check_between("ignore", number, 0, _GREATEST)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in classes.txt."""
        return self._classes

    @property
    def numbering(self) -> Numbering:
        """The numbers that the options say."""
        numbers = tuple(range(self.first_label, self.first_label + self.num_classes))
        void = tuple(self.ignore) if self.first_label == 0 or 0 in self.ignore else (*self.ignore, 0)
        taken = [number for number in void if number in numbers]
        if taken:
            name = self.classes[taken[0] - self.first_label]
            raise InputError(f"ignore has {taken[0]}, which is class {name!r}; leave it out, or take it from {_FILE}")
        return Numbering(numbers, void)

    def prepare(self) -> None:
        """Read the names of the classes, and find the pictures; as `SegmentationDataset`."""
        super().prepare()
        self.numbering  # noqa: B018 - it is checked by being asked for

    @functools.cached_property
    def _classes(self) -> tuple[str, ...]:
        file = Path(self.root).expanduser() / _FILE
        try:
            names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            raise InputError(f"{file} is missing; expected the name of a class in each line") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read: {error}") from error
        while names and not names[-1]:
            names.pop()
        if not names or len(names) > IGNORED:
            raise InputError(f"{file} names {len(names)} classes; expected 1 to {IGNORED}, one in each line")
        for number, name in enumerate(names, 1):
            if not name or names.index(name) < number - 1:
                what = f"repeats {name!r}" if name else "is empty"
                raise InputError(f"{file}: line {number} {what}; expected the name of another class in each line")
        return tuple(names)
