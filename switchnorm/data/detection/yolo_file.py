"""Labels as YOLO has them: a text file for each picture, a line for each object. Nothing here needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from switchnorm.errors import InputError
from switchnorm.text import read_text

# Bytes of a file; and how far, in sides of the picture, anything may lie from its corner: boxes reach outside by
# little, and numbers of pixels are refused.
_LARGEST, _FARTHEST = 16 << 20, 2.0
# How far, in sides of the picture, a box reaches outside by rounding.
_BEYOND = 1e-3
_EXAMPLE = (
    "expected a class, and the middle, width and height of a box or the points of an outline, as in '0 .5 .5 .2 .1'"
)


class YoloObject(NamedTuple):
    """An object as it is written.

    Args:
        line: of the file, from 1.
        number: of its class.
        box: x1, y1, x2, y2 as shares of the picture's width and height.
        outline: x and y in turn, likewise; () where the line is a box.
    """

    line: int
    number: int
    box: tuple[float, float, float, float]
    outline: tuple[float, ...]

    @property
    def as_box(self) -> tuple[float, float, float, float]:
        """The box that the first numbers of an outline make, were they the middle, width and height of one."""
        x, y, width, height = self.outline[:4]
        return _corners(x, y, width, height)


def read_yolo(path: Path, keypoints: int = 0) -> list[YoloObject]:
    """The objects on a picture.

    Args:
        path: of the file.
        keypoints: how many numbers of keypoints may follow a box, which are passed over; 0 for boxes or outlines.

    Raises:
        FileNotFoundError: no such file.
        InputError: no text, or a line that is no object.
    """
    lines = read_text(path, str(path), _LARGEST).split("\n")
    return [
        _parse(f"{path}, line {number}", number, line, keypoints)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _parse(where: str, line: int, text: str, keypoints: int) -> YoloObject:
    words = text.split()
    try:
        first, *numbers = map(float, words)
    except ValueError:
        raise InputError(f"{where}: {text.strip()[:80]!r}; {_EXAMPLE}") from None
    if not math.isfinite(first) or first % 1 or not 0 <= first < 1 << 31:
        raise InputError(f"{where}: class {words[0]:.40}; expected a whole number from 0")
    if keypoints and len(numbers) not in (4, 4 + keypoints):
        raise InputError(
            f"{where} has {len(numbers)} numbers behind the class; expected 4 of a box and, by the kpt_shape of the "
            f"dataset, {keypoints} of keypoints"
        )
    numbers = numbers[:4] if keypoints else numbers
    if len(numbers) == 5:
        raise InputError(f"{where} has 5 numbers behind the class, as detections with a score have; {_EXAMPLE}")
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        more, rest = divmod(len(numbers) - 4, 3)
        points = f"; of a box and {more} keypoints kpt_shape: [{more}, 3] in data.yaml says so" if not rest else ""
        raise InputError(f"{where} has {len(numbers)} numbers behind the class; {_EXAMPLE}{points}")
    beyond = next((number for number in numbers if not abs(number) <= _FARTHEST), None)  # which NaN is
    if beyond is not None:
        raise InputError(f"{where} has {beyond:g}; expected shares of the picture's sides, from 0 to 1, not pixels")
    if len(numbers) == 4:
        x, y, width, height = numbers
        return YoloObject(line, int(first), _corners(x, y, width, height), ())
    xs, ys = numbers[::2], numbers[1::2]
    return YoloObject(line, int(first), (min(xs), min(ys), max(xs), max(ys)), tuple(numbers))


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """A box by its middle, width and height -> x1, y1, x2, y2."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def keypoints_instead(objects: Sequence[YoloObject]) -> tuple[int, int] | None:
    """What `kpt_shape` would be, where all outlines of a split could as well be boxes with keypoints; else None.

    Such lines have one count of numbers, and their boxes lie within the picture. The first two points of an outline
    make such a box only where an object is in the upper left or in the middle.

    Args:
        objects: of the split that have outlines.
    """
    if len({len(each.outline) for each in objects}) != 1:
        return None
    for each in objects:
        if min(each.as_box[:2]) < -_BEYOND or max(each.as_box[2:]) > 1 + _BEYOND or min(each.outline[2:4]) <= 0:
            return None
    numbers = len(objects[0].outline) - 4
    flags = {flag for each in objects for flag in each.outline[6::3]}
    return (numbers // 3, 3) if numbers % 3 == 0 and flags <= {0.0, 1.0, 2.0} else (numbers // 2, 2)
