"""A picture's file, of whatever kind."""

from __future__ import annotations

import numpy as np
from PIL import Image


class DamagedError(Exception):
    """A picture that cannot be read; the message is its path and why."""


def read_picture(path: str) -> Image.Image:
    """The picture of a file in red, green and blue of 8 bits, whatever kind of file it is and whatever its name says.

    Raises:
        DamagedError: no such file, or not a whole picture.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode == "RGB":
                picture.load()
                return picture
            if picture.mode.startswith("I"):  # of 16 bits, which Pillow would cut off at 255
                picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
            return picture.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # the decoders of damaged files raise nearly anything
        reason = "it is missing" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise DamagedError(f"{path} ({reason})") from error
