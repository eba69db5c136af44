"""The files of a segmentation run: classes.csv, confusion.csv and examples/, as they are written and read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.report.common.run_pictures import RunPicture, read_run_picture
from switchnorm.runs.reading import check_inside, read_record
from switchnorm.runs.tables import csv_rows, csv_text, epoch_of, epoch_shift, number, table

if TYPE_CHECKING:
    from switchnorm.tasks.segmentation.confusion import Scores

#: A row per class and epoch; IoU and accuracy are empty where their denominator is 0.
CLASSES = "classes.csv"
CLASS_COLUMNS = ("epoch", "class", "iou", "accuracy", "pixels")
#: Of the last epoch: a row per true class, a column per predicted class, in pixels.
CONFUSION = "confusion.csv"
#: Of the last epoch: the folder of some test pictures with target and prediction, and the list of them.
EXAMPLES, EXAMPLES_LIST = "examples", "examples.json"

_COLOUR, _COUNT = re.compile(r"#[0-9a-fA-F]{6}"), re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class ClassScore:
    """How well a class was found. Fractions; None where the denominator is 0."""

    name: str
    iou: float | None
    accuracy: float | None
    pixels: int


@dataclass(frozen=True)
class Confusion:
    """Which class was taken for which: pixels by true class (rows) and predicted class."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Example:
    """A test picture with its target and a prediction, and how good that is."""

    name: str
    accuracy: float | None
    mean_iou: float | None
    picture: RunPicture
    target: RunPicture
    prediction: RunPicture


@dataclass(frozen=True)
class Examples:
    """The test pictures that a run shows."""

    epoch: int
    """After which the predictions were made, counted from 1."""
    colours: dict[str, str]
    """Of the classes, in the order of labels."""
    pictures: tuple[Example, ...]


@dataclass(frozen=True)
class Scenes:
    """All that a segmentation run says besides its scores."""

    classes: tuple[ClassScore, ...]
    confusion: Confusion | None
    examples: Examples | None

    @property
    def colours(self) -> dict[str, str]:
        """Of the classes, by name, where they are known."""
        return {} if self.examples is None else self.examples.colours


def class_rows(names: Sequence[str], scores: Scores) -> list[tuple[Any, ...]]:
    """Class, IoU, accuracy and pixels of every class; "" where the denominator is 0."""

    def rounded(value: float) -> float | str:
        return "" if math.isnan(value) else round(value, 6)

    numbers = zip(names, scores.iou.tolist(), scores.accuracy.tolist(), scores.pixels.tolist(), strict=True)
    return [(name, rounded(iou), rounded(accuracy), int(pixels)) for name, iou, accuracy, pixels in numbers]


def confusion_text(names: Sequence[str], scores: Scores) -> str:
    """The counts of pixels as CSV: a row per true class, a column per predicted class."""
    return csv_text(
        [["truth", *names], *([name, *row] for name, row in zip(names, scores.matrix.tolist(), strict=True))]
    )


def read_scenes(run: Path, start: int = 0) -> Scenes:
    """What there is in a run folder; a file that is absent is nothing.

    Args:
        run: the folder.
        start: epochs that counted as done when the run began.

    Raises:
        InputError: a file is damaged, or a picture that is listed is missing.
    """
    return Scenes(read_classes(run), read_confusion(run), read_examples(run, start))


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
        values = {name: number(where, name, row[name]) for name in ("iou", "accuracy")}
        if not _COUNT.fullmatch(row["pixels"]):
            raise InputError(f"{where}: pixels is {row['pixels']!r:.80}, expected a count")
        for name in ("iou", "accuracy"):
            if not 0 <= (values[name] or 0) <= 1:
                raise InputError(f"{where}: {name} is {row[name]!r:.80}, expected a fraction from 0 to 1")
        name, classes = row["class"], epochs.setdefault(epoch_of(where, row["epoch"]), {})
        if name in classes:
            raise InputError(f"{where}: class {name!r:.80} comes twice in an epoch")
        classes[name] = ClassScore(name, values["iou"], values["accuracy"], int(row["pixels"]))
    return tuple(epochs[max(epochs)].values()) if epochs else ()


def read_confusion(run: Path) -> Confusion | None:
    """The confusion matrix of the last validation; None where the file is absent.

    Raises:
        InputError: the file is damaged.
    """
    path = run / CONFUSION
    if not path.exists():
        return None
    check_inside(run, path)
    head, *rows = [row for _, row in csv_rows(path)] or [[]]
    names = tuple(head[1:])
    if head[:1] != ["truth"] or tuple(row[0] if row else "" for row in rows) != names:
        raise InputError(f"{path} is damaged: expected 'truth' and the classes, then a line for each of them in order")
    counts = []
    for place, row in enumerate(rows, start=2):
        if len(row) != len(head) or not all(map(_COUNT.fullmatch, row[1:])):
            raise InputError(f"{path}, line {place}: expected {len(names)} counts of pixels")
        counts.append(tuple(map(int, row[1:])))
    return Confusion(names, tuple(counts))


def read_examples(run: Path, start: int = 0) -> Examples | None:
    """The test pictures of the last validation; None where there are none.

    Args:
        run: the folder.
        start: epochs that counted as done when the run began.

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
        epoch = int(found["epoch"]) + _shift(run, start)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is damaged: expected epoch, classes with colours, and pictures with scores"
        ) from error
    if len(colours) != len(found["classes"]):
        raise InputError(f"{path} is damaged: two classes have the same name")
    if bad := next((colour for colour in colours.values() if not _COLOUR.fullmatch(colour)), None):
        raise InputError(f"{path} is damaged: {bad!r} is no colour such as #1f77b4")
    return Examples(epoch, colours, pictures)


def renumber_examples(run: Path, start: int) -> None:
    """Let the examples of an older run, which is continued, count epochs from 1, as its tables will."""
    path = run / EXAMPLES / EXAMPLES_LIST
    if path.is_file() and _shift(run, start):
        found = read_record(path, "a run's test pictures")
        write_file(path, json.dumps({**found, "epoch": found["epoch"] + 1}, indent=1) + "\n")


def _shift(run: Path, start: int) -> int:
    """`epoch_shift` of the run's classes.csv, which is written with the examples."""
    path = run / CLASSES
    rows = table(path, CLASS_COLUMNS) if path.exists() else iter(())
    return next((epoch_shift(row["epoch"], start) for _, row in rows), 0)


def _example(folder: Path, described: Mapping[str, Any]) -> Example:
    name = str(described["name"])
    if Path(name).name != name:  # a report shows nothing from beside the run
        raise InputError(f"{folder / EXAMPLES_LIST} is damaged: {name!r} is no name of a picture")
    accuracy, mean_iou = (_fraction(described[key]) for key in ("accuracy", "mean_iou"))
    kinds = ("jpg", "truth.png", "prediction.png")
    files = (folder / f"{name}.{kind}" for kind in kinds)
    return Example(name, accuracy, mean_iou, *(read_run_picture(file, EXAMPLES_LIST) for file in files))


def _fraction(value: Any) -> float | None:
    number = None if value is None else float(value)
    return number if number is not None and 0 <= number <= 1 else None
