"""Any pictures with masks."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from switchnorm.classes import labels_among, lacking, mapped, same
from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.datasets.options import check_between
from switchnorm.data.files.named import find_named
from switchnorm.data.segmentation.class_names import ClassNames, Color, color_of, read_classes
from switchnorm.data.segmentation.labels import GREATEST, IGNORED, Numbering
from switchnorm.data.segmentation.mask_values import Values, parse_color, parse_values, written_values
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset
from switchnorm.errors import InputError, unknown
from switchnorm.text import expanded

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.files.pairs import Pairs
    from switchnorm.data.segmentation.legend import Legend
    from switchnorm.data.segmentation.mask_look import MaskLook

_FILE = "classes.txt"
_COLORS = "colours of classes, 'road #804080' in classes.txt or {'#804080': road} in data.values"


@dataclass(frozen=True)
class Masks(SegmentationDataset):
    """Pictures with masks of the same names in folders, and a file that names a class in each line.

    The pictures of split train are sought in train with masks in trainannot; in images/train with masks in
    annotations/train, masks/train or labels/train; and in train/images with masks in train/annotations, train/masks or
    train/labels; with a `mask_suffix` in train beside their masks, too. Likewise val and test, also called training,
    validation and testing. A mask is a PNG, BMP, TIFF, GIF or PGM with one number per pixel, of 8 or 16 bits or
    paletted, or with the colours of the classes.

    Args:
        ignore: numbers of pixels that do not count, or colours ("#000000") of masks in colour; the first number is
            written for them.
        first_label: the number of the first class: 0, or 1, where 0 is unlabelled and does not count.
        values: which class each number of the masks is, or each colour: {0: background, 255: road}. Several may be one
            class; null, void or ignore do not count. It then names the classes, in the order of their smallest numbers.
        mask_suffix: what the names of masks end with after those of their pictures: _mask of a_mask.png and a.jpg.
        picture_suffix: what the names of pictures end with that those of masks lack.
        classes_file: names a class in each line, or all with a colour, `road #804080` or `road 128 64 128`; null is
            classes.txt in `root`. Prediction reads nothing else.
    """

    ignore: list[int | str] = field(default_factory=lambda: [IGNORED])
    first_label: Literal[0, 1] = 0
    values: dict[Any, Any] | None = None
    mask_suffix: str = ""
    picture_suffix: str = ""
    classes_file: str | None = None

    places: ClassVar[tuple[str, ...]] = ("root", "classes_file")
    #: The dataset as its own file of the classes numbers it, where `with_classes` has named those of a run.
    _own: ClassVar["Masks | None"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_label not in (0, 1):
            raise InputError(f"first_label must be 0 or 1, got {self.first_label}")
        for number in self.ignore:
            if isinstance(number, str) and parse_color(number) is None:
                raise InputError(
                    f"ignore has {number!r}; expected numbers from 0 to {GREATEST}, or colours as '#000000'"
                )
            if not isinstance(number, str):
                check_between("ignore", number, 0, GREATEST)
        if self._values is None:
            return
        for name, value, default in (("ignore", self.ignore, [IGNORED]), ("first_label", self.first_label, 0)):
            if value != default:
                raise InputError(
                    f"{name} {value} has no effect with values, which says what every number is; leave it out"
                )

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names: in `values`, or in the file."""
        return self._class_names.names

    @functools.cached_property
    def class_colors(self) -> tuple[Color, ...] | None:
        """The colours: in `values`, or in the file, if either has any."""
        return self._class_names.colors

    @property
    def numbering(self) -> Numbering:
        """The numbers that the options say."""
        if self._values is not None:
            return self._values.numbering_of(self.classes)
        numbers = tuple(range(self.first_label, self.first_label + self.num_classes))
        ignored = tuple(number for number in self.ignore if isinstance(number, int))
        void = ignored if self.first_label == 0 or 0 in ignored else (*ignored, 0)
        taken = [number for number in void if number in numbers]
        if taken:
            name = self.classes[taken[0] - self.first_label]
            file = self.classes_file or _FILE
            raise InputError(f"ignore has {taken[0]}, which is class {name!r}; leave it out, or take it from {file}")
        return Numbering(numbers, void, stated="data.values can say otherwise")

    @property
    def legend(self) -> "Legend":
        """What the pixels of masks mean, by the colours too where classes have any."""
        from switchnorm.data.segmentation.legend import Legend  # as `Dataset` explains

        values = self._values
        if values is not None:
            return Legend(self.numbering, self.classes, values.colors, values.by_color)
        colors = _labelled(self.class_colors or ())
        void = [color for color in map(parse_color, self.ignore) if color is not None]
        if void and not colors:
            raise InputError(f"ignore {self.ignore} has a colour, and the classes have none; expected {_COLORS}")
        known = (*colors, *((color, IGNORED) for color in void))
        return Legend(self.numbering, self.classes, known, advice="" if colors else _COLORS)

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
        there = self._as_found.classes
        absent = lacking(there, self.classes)
        parts = (mapped(dict(enumerate(there)), self.classes), f"the data lacks {absent}" if absent else "")
        return "; ".join(filter(None, parts))

    def prepare(self) -> None:
        """Read the names of the classes, and find the pictures; as `SegmentationDataset`."""
        super().prepare()
        self._as_found.legend, self._known_labels  # noqa: B018 - they are checked by being asked for

    def _find(self, root: Path, split: str) -> "Pairs | None":
        from switchnorm.data.files.pairs import find_folders  # as `Dataset` explains
        from switchnorm.data.files.suffixes import Suffixes

        suffixes = Suffixes(self.picture_suffix, self.mask_suffix, named=True)
        return find_folders(root, split, suffixes, may_miss=self._may_miss)

    def _looked_for(self, split: str) -> str:
        from switchnorm.data.files.pairs import layouts  # as `Dataset` explains

        return layouts(split, beside=self.mask_suffix)

    def _remedy(self, look: "MaskLook") -> str:
        """The `values` that would give the numbers without a class to the classes without a pixel."""
        legend, classes = self._as_found.legend, self._as_found.classes
        missing = [name for label, name in enumerate(classes) if label not in look.labels]
        void = [number for number in look.numbers if number in legend.numbering.ignored]
        if self._values is not None or len(missing) != len(void):
            return "data.values says which class each number is"
        numbers = zip(legend.numbering.classes, classes, strict=True)
        meant = {number: name for number, name in numbers if name not in missing}
        return (
            f"if they are classes, set data.values to {written_values(meant | dict(zip(void, missing, strict=True)))}"
        )

    @functools.cached_property
    def _values(self) -> Values | None:
        return None if self.values is None else parse_values(self.values)

    def _check_training(self) -> None:
        if absent := lacking(self._as_found.classes, self.classes):
            raise InputError(f"{self._source} lacks {absent}; training needs all of them")

    @property
    def _source(self) -> str:
        """What names the classes, for errors."""
        if self.values is not None:
            return "data.values"
        return self.classes_file or str(Path(self.root) / _FILE)

    @functools.cached_property
    def _class_names(self) -> ClassNames:
        root = expanded("root", self.root)
        named, values = self.classes_file, self._values
        file = root / _FILE if named is None else find_named("classes_file", named, root)
        if values is None:
            return read_classes(file)
        colors = tuple(_split(each[0]) for each in values.numbers) if values.by_color else None
        if named is None and not file.exists():
            return ClassNames(values.classes, colors)
        found = read_classes(file)
        for name in values.classes:
            if name not in found.names:
                raise unknown(f"values names a class that {file} does not: class", name, found.names)
        for name in found.names:
            if name not in values.classes:
                raise InputError(
                    f"values has no number for class {name!r}, which {file} names; give it one, or take it out"
                )
        of_file = dict(zip(found.names, found.colors or (), strict=False))
        return ClassNames(values.classes, colors or tuple(of_file[name] for name in values.classes if of_file) or None)


def _labelled(colors: tuple[Color, ...]) -> list[tuple[int, int]]:
    """(0xRRGGBB, label) of each class's colour."""
    return [(red << 16 | green << 8 | blue, label) for label, (red, green, blue) in enumerate(colors)]


def _split(color: int) -> Color:
    """Red, green and blue of 0xRRGGBB."""
    return color >> 16, color >> 8 & 255, color & 255
