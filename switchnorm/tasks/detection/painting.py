"""Objects drawn on pictures: boxes with names and scores, and masks, in the colours of their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from switchnorm.data.segmentation.palette import distinct_colors

Array = np.ndarray[Any, Any]
#: Left, top, right and bottom in pixels.
_Field = tuple[int, int, int, int]
#: Red, green and blue.
_Color = tuple[int, int, int]

_OPACITY = 0.4
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
#: Sides of a picture over the width of its lines and the height of its letters, and what these are at least.
_LINES, _THINNEST = 320, 2
_LETTERS, _SMALLEST = 32, 12


#: How drawn pictures are written: full resolution of colours, in which letters are.
WRITTEN = {"quality": 88, "subsampling": 0}


class _Sign(NamedTuple):
    """What is written on a box, and where."""

    text: str
    field: _Field
    color: _Color


def class_colors(count: int) -> Array:
    """A colour for each class, (count, 3) uint8; the 257th has that of the first."""
    return np.resize(distinct_colors(min(count, 256)), (count, 3))


def paint(
    picture: Image.Image,
    boxes: Any,
    labels: Any,
    names: Sequence[str],
    colors: Array,
    scores: Any = None,
    masks: Sequence[Any] | None = None,
    crowd: Any = None,
) -> Image.Image:
    """A picture with objects drawn over it, the first on top.

    Args:
        picture: of any mode; it is left as it is.
        boxes: (K, 4) x1, y1, x2, y2, edges in pixels of the picture.
        labels: (K,) integers from 1.
        names: of the classes; label 1 is the first.
        colors: (C, 3) uint8, of the classes.
        scores: (K,) in [0, 1], written beside the names; None for objects that are known.
        masks: of each object, as run lengths (`Rle`) or (H, W) arrays, in the size of the picture.
        crowd: (K,) bool: regions that are no single object, whose box is dashed; None for none.

    Returns:
        A picture of mode "RGB", of the same size.
    """
    drawn = picture.convert("RGB")
    places = range(len(boxes))
    colored = [_color(colors[int(label) - 1]) for label in labels]
    dashed = [crowd is not None and bool(crowd[place]) for place in places]
    for place in reversed(places):
        if masks is not None:
            drawn = _tinted(drawn, masks[place], colored[place])
    canvas = ImageDraw.Draw(drawn)
    width = max(_THINNEST, round(max(drawn.size) / _LINES))
    corners = [_corners(box, drawn.size) for box in boxes]
    for place in reversed(places):
        _outline(canvas, corners[place], colored[place], width, dashed[place])
    font = _font(max(_SMALLEST, round(min(drawn.size) / _LETTERS)))
    signs: list[_Sign] = []
    for place in places:
        text = names[int(labels[place]) - 1] + (" (crowd)" if dashed[place] else "")
        if scores is not None:
            text += f" {100 * float(scores[place]):.0f}"
        size = _extent(text, font)
        taken = [sign.field for sign in signs]
        signs.append(_Sign(text, _free_field(corners[place], size, drawn.size, taken), colored[place]))
    for sign in reversed(signs):
        canvas.rectangle(sign.field, fill=sign.color, outline=_legible(sign.color))
        left, top, _, _ = font.getbbox(sign.text)
        at = (sign.field[0] + 3 - left, sign.field[1] + 2 - top)
        canvas.text(at, sign.text, fill=_legible(sign.color), font=font)
    return drawn


def _color(row: Array) -> _Color:
    red, green, blue = row.tolist()
    return red, green, blue


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _extent(text: str, font: Any) -> tuple[int, int]:
    """Width and height of a sign with that text."""
    left, top, right, bottom = font.getbbox(text)
    return round(right - left) + 6, round(bottom - top) + 4


def _corners(box: Any, size: tuple[int, int]) -> _Field:
    """The pixels of a box: its edges are between pixels."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    left, top = min(max(round(x1), 0), size[0] - 1), min(max(round(y1), 0), size[1] - 1)
    return left, top, max(left, min(round(x2), size[0]) - 1), max(top, min(round(y2), size[1]) - 1)


def _outline(canvas: ImageDraw.ImageDraw, corners: _Field, color: _Color, width: int, dashed: bool) -> None:
    """A frame in a colour, between two lines that can be seen wherever the colour cannot."""
    left, top, right, bottom = corners
    edge = _legible(color)
    if not dashed:
        canvas.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=edge, width=width + 2)
        canvas.rectangle(corners, outline=color, width=width)
        return
    for start, end in _dashes(corners, 4 * width):
        canvas.line((start, end), fill=edge, width=width + 2)
        canvas.line((start, end), fill=color, width=width)


def _dashes(corners: _Field, length: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    left, top, right, bottom = corners
    for x in range(left, right + 1, 2 * length):
        for y in (top, bottom):
            yield (x, y), (min(x + length, right), y)
    for y in range(top, bottom + 1, 2 * length):
        for x in (left, right):
            yield (x, y), (x, min(y + length, bottom))


def _tinted(picture: Image.Image, mask: Any, color: _Color) -> Image.Image:
    """A mask in a colour over a picture, its edge opaque."""
    if isinstance(mask, dict):
        from faster_coco_eval.core import mask as coco_masks  # not before there are run lengths

        mask = coco_masks.decode(mask)
    inside = np.asarray(mask).astype(bool)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not rows.size:
        return picture
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    inside = inside[top:bottom, left:right]
    framed = np.pad(inside, 1)
    core = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    share = np.where(inside, np.where(core, _OPACITY, 1.0), 0.0).astype(np.float32)[..., None]
    below = np.asarray(picture.crop((left, top, right, bottom)), np.float32)
    mixed = ((1 - share) * below + share * np.array(color, np.float32)).round().astype(np.uint8)
    picture.paste(Image.fromarray(mixed), (left, top))
    return picture


def _free_field(corners: _Field, extent: tuple[int, int], size: tuple[int, int], taken: Sequence[_Field]) -> _Field:
    """Where a sign of a width and height covers no other: above the box, else at another side of it."""
    left, top, right, bottom = corners
    width, height = extent
    spots = (
        (left, top - height),
        (left, bottom + 1),
        (right - width + 1, top - height),
        (right - width + 1, bottom + 1),
        (left, top),
        (left, bottom - height),
        (right + 1, top),
        (left - width, top),
    )
    fields = [_inside(x, y, width, height, size) for x, y in spots]
    covered = [sum(_shared(field, other) for other in taken) for field in fields]
    return fields[covered.index(min(covered))]


def _inside(x: int, y: int, width: int, height: int, size: tuple[int, int]) -> _Field:
    """A field of a width and height, moved into the picture."""
    x, y = max(0, min(x, size[0] - width)), max(0, min(y, size[1] - height))
    return x, y, x + width - 1, y + height - 1


def _shared(one: _Field, other: _Field) -> int:
    """How many pixels two fields have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    return max(width, 0) * max(height, 0)


def _legible(color: _Color) -> _Color:
    """Black or white, whichever has the greater contrast to a colour (WCAG 2, relative luminance)."""
    linear = [part / 3294.6 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _BLACK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else _WHITE
