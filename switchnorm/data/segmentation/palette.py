"""Colours for classes, and pictures of labels in them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from PIL import Image

from switchnorm.data.segmentation.labels import IGNORED, Numbering
from switchnorm.errors import InputError

Array = np.ndarray[Any, Any]

_LEVELS = np.linspace(0, 255, 7).round()
_ROWS = 256
_WEIGHTS = np.array([2.0, 4.0, 3.0])  # how much a difference in red, green and blue is seen


@functools.cache
def _all_colors() -> Array:
    """A colour for every label: each the farthest of a grid from those before it, from black and from white."""
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), -1).reshape(-1, 3)
    chosen = [grid[0], grid[-1]]
    distance = ((grid - chosen[0]) ** 2 * _WEIGHTS).sum(1)
    for _ in range(IGNORED + 1):
        distance = np.minimum(distance, ((grid - chosen[-1]) ** 2 * _WEIGHTS).sum(1))
        chosen.append(grid[distance.argmax()])
    return np.array(chosen[2:], np.uint8)


def distinct_colors(count: int) -> Array:
    """So many different colours, at most 256, none of them black or white: (count, 3) uint8."""
    return _all_colors()[:count].copy()


def mask_image(labels: Any, palette: Array) -> Image.Image:
    """Labels (H, W) uint8, a tensor or an array, as a picture of mode "P" whose indices they are.

    Args:
        labels: what to show.
        palette: (K, 3) uint8, the colour of each class. 255 is black, and transparent in the file.
    """
    return _paletted(np.asarray(labels), palette, range(len(palette)), IGNORED)


def written_mask(labels: Any, numbering: Numbering, palette: Array) -> Image.Image:
    """Labels (H, W) uint8 as a picture of mode "P" whose indices are the numbers of a dataset's own masks.

    Numbers that need 16 bits have no palette: the picture is gray then, of mode "I;16".

    Args:
        labels: what to show.
        numbering: of the dataset's masks.
        palette: (K, 3) uint8, the colour of each class.
    """
    written = numbering.written(labels)
    if numbering.wide:
        return Image.fromarray(written)
    return _paletted(written, palette, numbering.classes, numbering.void)


def overlay(picture: Image.Image, labels: Any, palette: Array, opacity: float = 0.5) -> Image.Image:
    """A picture under the colours of its labels (H, W) uint8; where these are 255 it shows as it is.

    Raises:
        InputError: a picture and labels of different sizes.
    """
    labels = np.asarray(labels)
    if labels.shape != (picture.height, picture.width):
        raise InputError(
            f"labels of {labels.shape[1]}x{labels.shape[0]} pixels do not lie over a picture of "
            f"{picture.width}x{picture.height}"
        )
    colors = np.zeros((IGNORED + 1, 3), np.float32)
    colors[: len(palette)] = palette
    mixed = np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    for top in range(0, picture.height, _ROWS):  # in bands, since as floating point the whole takes eight times as much
        band, below = mixed[top : top + _ROWS], labels[top : top + _ROWS]
        share = np.where(below == IGNORED, 0, opacity).astype(np.float32)[..., None]
        band[:] = ((1 - share) * band + share * colors[below]).round()
    return Image.fromarray(mixed)


def _paletted(indices: Array, palette: Array, numbers: Any, ignored: int) -> Image.Image:
    colors = np.zeros((IGNORED + 1, 3), np.uint8)
    colors[list(numbers)] = palette
    image = Image.fromarray(indices)
    image.putpalette(colors.tobytes())
    image.info["transparency"] = ignored
    return image
