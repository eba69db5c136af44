"""Any pictures with masks."""

import functools
from dataclasses import dataclass, field
from typing import Literal

from switchnorm.data.datasets.options import check_between
from switchnorm.data.files.named import find_named
from switchnorm.data.segmentation.class_names import ClassNames, Color, read_classes
from switchnorm.data.segmentation.labels import IGNORED, Numbering
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset
from switchnorm.errors import InputError
from switchnorm.text import expanded

_FILE = "classes.txt"
_GREATEST = 65535  # of 16 bits


@dataclass(frozen=True)
class Masks(SegmentationDataset):
    """Pictures with masks of the same names in folders, and a file that names a class in each line.

    The pictures of split train are sought in train with masks in trainannot; in images/train with masks in
    annotations/train, masks/train or labels/train; and in train/images with masks in train/annotations, train/masks or
    train/labels. Likewise val and test, also called training, validation and testing. A mask is a PNG, BMP or TIFF with
    one number per pixel, of 8 or 16 bits or paletted.

    Args:
        ignore: numbers of pixels that do not count; the first one is written for them.
        first_label: the number of the first class: 0, or 1, where 0 is unlabelled and does not count.
        classes_file: names a class in each line, or all with a colour, `road #804080` or `road 128 64 128`; null is
            classes.txt in `root`. Prediction reads nothing else.
    """

    ignore: list[int] = field(default_factory=lambda: [IGNORED])
    first_label: Literal[0, 1] = 0
    classes_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_label not in (0, 1):
            raise InputError(f"first_label must be 0 or 1, got {self.first_label}")
        for number in self.ignore:
            check_between("ignore", number, 0, _GREATEST)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in the file."""
        return self._class_names.names

    @property
    def class_colors(self) -> tuple[Color, ...] | None:
        """The colours in the file, if it has any."""
        return self._class_names.colors

    @property
    def numbering(self) -> Numbering:
        """The numbers that the options say."""
        numbers = tuple(range(self.first_label, self.first_label + self.num_classes))
        void = tuple(self.ignore) if self.first_label == 0 or 0 in self.ignore else (*self.ignore, 0)
        taken = [number for number in void if number in numbers]
        if taken:
            name = self.classes[taken[0] - self.first_label]
            file = self.classes_file or _FILE
            raise InputError(f"ignore has {taken[0]}, which is class {name!r}; leave it out, or take it from {file}")
        return Numbering(numbers, void)

    def prepare(self) -> None:
        """Read the names of the classes, and find the pictures; as `SegmentationDataset`."""
        super().prepare()
        self.numbering  # noqa: B018 - it is checked by being asked for

    @functools.cached_property
    def _class_names(self) -> ClassNames:
        root = expanded("root", self.root)
        named = self.classes_file
        return read_classes(root / _FILE if named is None else find_named("classes_file", named, root))
