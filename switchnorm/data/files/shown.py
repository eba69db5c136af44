"""Values as pictures to be looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

#: Values up to so far beyond 0 to 255 are colours that an augmentation has moved; so few levels are none of colours.
_BEYOND, _LITTLE = 160, 32


def as_pictures(values: np.ndarray[Any, Any]) -> list[Image.Image]:
    """Values (N, C, H, W) as pictures of 8 bits: of the first three channels, or of one in grey.

    Values that are no colours in 0 to 255 are stretched to these, all alike.
    """
    values = np.nan_to_num(values[:, : 3 if values.shape[1] >= 3 else 1].astype(np.float64), posinf=0, neginf=0)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < -_BEYOND or high > 255 + _BEYOND or high - low <= _LITTLE:
        values = (values - low) * (255 / ((high - low) or 1))
    levels = values.round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return [Image.fromarray(each if each.shape[2] == 3 else each[..., 0]).convert("RGB") for each in levels]
