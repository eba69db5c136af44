"""The files of a detector's run: classes.csv, curves.csv and examples/, as they are written and read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.errors import InputError
from switchnorm.report.common.run_pictures import RunPicture, read_run_picture
from switchnorm.runs.reading import check_inside, read_record
from switchnorm.runs.tables import csv_text, epoch_of, number, table
from switchnorm.tasks.detection.columns import KINDS

if TYPE_CHECKING:
    from switchnorm.tasks.detection.average_precision import Scores

#: A row per class and epoch: fractions, empty where the class has no object, or nothing has masks.
CLASSES = "classes.csv"
_RATES = ("ap", "ap50", "ap75", "ar")
_FRACTIONS = tuple(kind + rate for kind, _ in KINDS for rate in _RATES)
CLASS_COLUMNS = ("epoch", "class", *_FRACTIONS, "objects", "detections")
#: Of the last epoch: precision of each class at 101 recalls, and the score from which that recall is reached.
CURVES = "curves.csv"
CURVE_COLUMNS = ("of", "iou", "class", "recall", "precision", "score")
#: Of the last epoch: all detections in COCO's results format.
DETECTIONS = "detections.json"
#: Of the last epoch: the folder of some test pictures with objects and with detections, and the list of them.
EXAMPLES, EXAMPLES_LIST = "examples", "examples.json"
#: The kinds of pictures there: how their names end.
OBJECTS, FOUND = "objects.jpg", "detections.jpg"

#: What curves are drawn at: the column "iou", and the overlap; None for the mean over all.
OVERLAPS = (("0.50", 0.5), ("0.75", 0.75), ("0.50:0.95", None))
_MEAN = OVERLAPS[-1][0]

_COLOUR, _COUNT = re.compile(r"#[0-9a-fA-F]{6}"), re.compile(r"[0-9]{1,18}")
_COUNTS = ("right", "missed", "wrong")


@dataclass(frozen=True)
class ClassScore:
    """How well the objects of a class are found."""

    name: str
    rates: Mapping[str, float | None]
    """Fractions by column of classes.csv, "ap" to "mask_ar"; None where there is nothing to be found."""
    objects: int
    detections: int


@dataclass(frozen=True)
class Curve:
    """Precision over recall, of one class or in the mean over classes."""

    recalls: tuple[float, ...]
    precisions: tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """A test picture with its objects and with detections, and how good these are."""

    name: str
    right: int
    missed: int
    wrong: int
    objects: RunPicture
    found: RunPicture


@dataclass(frozen=True)
class Examples:
    """The test pictures that a run shows."""

    epoch: int
    """After which detections were made, counted from 1."""
    shown: float
    """The score from which they are drawn."""
    colours: dict[str, str]
    """Of the classes, in the order of labels."""
    pictures: tuple[Example, ...]


@dataclass(frozen=True)
class Details:
    """All that a detector's run says besides its scores."""

    classes: tuple[ClassScore, ...]
    curves: Mapping[tuple[str, str], Mapping[str, Curve]]
    """By what they are of ("box" or "mask") and overlap ("0.50"), of each class that has objects."""
    examples: Examples | None

    @property
    def colours(self) -> dict[str, str]:
        """Of the classes, by name, where they are known."""
        return {} if self.examples is None else self.examples.colours

    def mean_curve(self, of: str, overlap: str) -> Curve | None:
        """The mean over classes; None where there are none."""
        curves = list(self.curves.get((of, overlap), {}).values())
        if not curves:
            return None
        columns = zip(*(curve.precisions for curve in curves), strict=True)
        return Curve(curves[0].recalls, tuple(math.fsum(column) / len(curves) for column in columns))


def class_rows(names: Sequence[str], scores: Scores) -> list[tuple[Any, ...]]:
    """The rows of classes.csv but for the epoch."""
    columns: list[list[Any]] = []
    for kind, _ in KINDS:
        found = scores.kinds.get(kind)
        if found is None:
            columns += [[""] * len(names)] * len(_RATES)
            continue
        rates = (*map(found.of_classes, (None, 0.5, 0.75)), found.recall_of_classes)
        columns += [[_rounded(value) for value in rate.tolist()] for rate in rates]
    return list(zip(names, *columns, scores.objects.tolist(), scores.detections.tolist(), strict=True))


def curves_text(names: Sequence[str], scores: Scores) -> str:
    """The precision of each class that has objects, at 101 recalls, as CSV."""
    return csv_text([CURVE_COLUMNS, *_curve_rows(names, scores)])


def _curve_rows(names: Sequence[str], scores: Scores) -> Iterator[tuple[Any, ...]]:
    for kind, word in KINDS:
        found = scores.kinds.get(kind)
        for title, overlap in OVERLAPS if found is not None else ():
            assert found is not None
            curves = found.curves(overlap).tolist()
            # The mean over overlaps is reached at no one score.
            thresholds = None if overlap is None else found.thresholds(overlap).tolist()
            for label, name in enumerate(names):
                if not scores.objects[label]:
                    continue
                for place, precision in enumerate(curves[label]):
                    score = "" if thresholds is None else _rounded(thresholds[label][place])
                    yield word, title, name, place / 100, _rounded(precision), score


def _rounded(value: float) -> float | str:
    return "" if math.isnan(value) else round(value, 6)


def read_details(run: Path) -> Details:
    """What there is in a run folder; a file that is absent is nothing.

    Raises:
        InputError: a file is damaged, or a picture that is listed is missing.
    """
    return Details(read_classes(run), read_curves(run), read_examples(run))


def read_classes(run: Path) -> tuple[ClassScore, ...]:
    """The classes after the last epoch, in the order of labels; nothing where the file is absent.

    Raises:
        InputError: the file is damaged.
    """
    path = run / CLASSES
    if not path.exists():
        return ()
    check_inside(run, path)
    epochs: dict[int, dict[str, ClassScore]] = {}
    for where, row in table(path, CLASS_COLUMNS):
        rates = {name: _fraction_in(where, name, row[name]) for name in _FRACTIONS}
        for name in ("objects", "detections"):
            if not _COUNT.fullmatch(row[name]):
                raise InputError(f"{where}: {name} is {row[name]!r:.80}, expected a count")
        name, classes = row["class"], epochs.setdefault(epoch_of(where, row["epoch"]), {})
        if name in classes:
            raise InputError(f"{where}: class {name!r:.80} comes twice in an epoch")
        classes[name] = ClassScore(name, rates, int(row["objects"]), int(row["detections"]))
    return tuple(epochs[max(epochs)].values()) if epochs else ()


def read_curves(run: Path) -> dict[tuple[str, str], dict[str, Curve]]:
    """Precision over recall after the last validation, by what it is of and overlap, then by class; {} if absent.

    Raises:
        InputError: the file is damaged.
    """
    path = run / CURVES
    if not path.exists():
        return {}
    check_inside(run, path)
    points: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for where, row in table(path, CURVE_COLUMNS):
        recall, precision = (_fraction_in(where, name, row[name]) for name in ("recall", "precision"))
        if recall is None or precision is None:
            raise InputError(f"{where}: expected a recall and a precision")
        curve = points.setdefault((row["of"], row["iou"]), {}).setdefault(row["class"], [])
        if curve and recall <= curve[-1][0]:
            raise InputError(f"{where}: recall is {row['recall']!r:.80}, expected more than in the line before")
        curve.append((recall, precision))
    found = {}
    for key, by_class in points.items():
        lengths = {len(curve) for curve in by_class.values()}
        if len(lengths) > 1:
            raise InputError(f"{path} is damaged: expected as many recalls of every class")
        found[key] = {name: Curve(*zip(*curve, strict=True)) for name, curve in by_class.items()}
    return found


def read_examples(run: Path) -> Examples | None:
    """The test pictures of the last validation; None where there are none.

    Raises:
        InputError: a file is damaged, or a picture that is listed is missing.
    """
    folder = run / EXAMPLES
    path = folder / EXAMPLES_LIST
    if not path.exists():
        return None
    check_inside(run, path)
    found = read_record(path, "a run's test pictures")
    try:
        colours = {str(each["name"]): str(each["color"]) for each in found["classes"]}
        pictures = tuple(_example(folder, each) for each in found["pictures"])
        epoch, shown = int(found["epoch"]), float(found["shown"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is damaged: expected epoch, shown, classes with colours, and pictures with counts"
        ) from error
    if not 0 <= shown <= 1:
        raise InputError(f"{path} is damaged: shown is {shown:g}, expected a fraction from 0 to 1")
    if len(colours) != len(found["classes"]):
        raise InputError(f"{path} is damaged: two classes have the same name")
    if bad := next((colour for colour in colours.values() if not _COLOUR.fullmatch(colour)), None):
        raise InputError(f"{path} is damaged: {bad!r} is no colour such as #1f77b4")
    return Examples(epoch, shown, colours, pictures)


def _example(folder: Path, described: Mapping[str, Any]) -> Example:
    name = str(described["name"])
    if Path(name).name != name:  # a report shows nothing from beside the run
        raise InputError(f"{folder / EXAMPLES_LIST} is damaged: {name!r} is no name of a picture")
    counts = [int(described[key]) for key in _COUNTS]
    if min(counts) < 0:
        raise ValueError("a count below 0")
    right, missed, wrong = counts
    objects, found = (read_run_picture(folder / f"{name}.{kind}", EXAMPLES_LIST) for kind in (OBJECTS, FOUND))
    return Example(name, right, missed, wrong, objects, found)


def examples_text(epoch: int, shown: float, colors: Mapping[str, str], pictures: Sequence[Mapping[str, Any]]) -> str:
    """The list of examples, as `read_examples` reads it.

    Args:
        epoch: after which detections were made.
        shown: the score from which they are drawn.
        colors: of the classes, in the order of labels.
        pictures: of each "name", "right", "missed" and "wrong".
    """
    classes = [{"name": name, "color": color} for name, color in colors.items()]
    return json.dumps({"epoch": epoch, "shown": shown, "classes": classes, "pictures": list(pictures)}, indent=1) + "\n"


def _fraction_in(where: str, name: str, written: str) -> float | None:
    value = number(where, name, written)
    if value is not None and not 0 <= value <= 1:
        raise InputError(f"{where}: {name} is {written!r:.80}, expected a fraction from 0 to 1")
    return value
