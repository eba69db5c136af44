"""Sizes of pictures and of the canvases that hold them. All are (height, width) in pixels."""

from __future__ import annotations

from collections.abc import Iterable

Size = tuple[int, int]


def fitted(size: Size, side: int | None, longest: int | None) -> Size:
    """The size at which a picture's short side is `side`, or smaller where the long one would exceed `longest`.

    None as side keeps the picture's size, None as longest bounds nothing. Sides are rounded down, as in the published
    evaluation of ADE20K (CSAILVision/semantic-segmentation-pytorch) and in torchvision's detectors.
    """
    numerator, denominator = (1, 1) if side is None else (side, min(size))
    if longest is not None and max(size) * numerator > longest * denominator:
        numerator, denominator = longest, max(size)
    return max(size[0] * numerator // denominator, 1), max(size[1] * numerator // denominator, 1)


def within(size: Size, canvas: Size) -> Size:
    """A size, shrunk in proportion where it would not lie within another."""
    numerator, denominator = min((1, 1), *zip(canvas, size, strict=True), key=lambda pair: pair[0] / pair[1])
    return max(size[0] * numerator // denominator, 1), max(size[1] * numerator // denominator, 1)


def rounded_up(size: Size, multiple: int) -> Size:
    """The next size whose sides are multiples."""
    return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def common(sizes: Iterable[Size], multiple: int) -> Size:
    """The smallest size of such sides that holds all of them."""
    heights, widths = zip(*sizes, strict=True)
    return rounded_up((max(heights), max(widths)), multiple)
