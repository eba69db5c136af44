"""How pictures are resized."""

from __future__ import annotations

from typing import Literal, get_args

#: How a pixel of a resized picture is made of those around it, as Pillow names it; all but nearest antialias.
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
