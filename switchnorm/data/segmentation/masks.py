"""Any pictures with masks."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from switchnorm.classes import canonical, labels_among, listed, mapped, same
from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.datasets.options import check_between
from switchnorm.data.files.named import find_named
from switchnorm.data.segmentation.class_names import ClassNames, Color, color_of, read_classes
from switchnorm.data.segmentation.labels import IGNORED, Numbering
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset
from switchnorm.errors import InputError

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

    places: ClassVar[tuple[str, ...]] = ("root", "classes_file")
    #: The dataset as its own file of the classes numbers it, where `with_classes` has named those of a run.
    _own: ClassVar["Masks | None"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_label not in (0, 1):
            raise InputError(f"first_label must be 0 or 1, got {self.first_label}")
        for number in self.ignore:
            check_between("ignore", number, 0, _GREATEST)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names in the file."""
        return self._class_names.names

    @functools.cached_property
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

    def with_classes(self, names: Sequence[str], colors: Sequence[str] | None = None) -> Dataset:
        """As of `Dataset`: masks are mapped by the names in the file of the classes."""
        own = tuple(map(color_of, colors)) if colors is not None else None
        known = replace(self)
        # Cached properties that are not computed then, and what hides an attribute of the class.
        vars(known).update(classes=tuple(names), class_colors=own, _own=self._as_found)
        return known if known.classes == tuple(names) else super().with_classes(names, colors)

    @property
    def _as_found(self) -> SegmentationDataset:
        return self if self._own is None else self._own

    @functools.cached_property
    def _known_labels(self) -> tuple[int, ...] | None:
        own = self._as_found.classes
        return None if same(own, self.classes) else labels_among(own, self.classes, self._source)

    def mapping(self) -> str:
        """As of `Dataset`."""
        return mapped(dict(enumerate(self._as_found.classes)), self.classes)

    def prepare(self) -> None:
        """Read the names of the classes, and find the pictures; as `SegmentationDataset`."""
        super().prepare()
        self._as_found.numbering, self._known_labels  # noqa: B018 - they are checked by being asked for

    def _check_training(self) -> None:
        there = self._as_found.classes
        absent = [name for name in self.classes if canonical(name) not in set(map(canonical, there))]
        if absent:
            raise InputError(
                f"{self._source} lacks {len(absent)} of the run's {len(self.classes)} classes ({listed(absent)}); "
                "training needs all of them"
            )

    @property
    def _source(self) -> str:
        """The file of the classes, for errors."""
        return self.classes_file or str(Path(self.root) / _FILE)

    @functools.cached_property
    def _class_names(self) -> ClassNames:
        root = Path(self.root).expanduser()
        named = self.classes_file
        return read_classes(root / _FILE if named is None else find_named("classes_file", named, root))
