"""Pictures by which the scales of 8-bit numbers are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from switchnorm.deploy.given import found_pictures, is_path
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.deploy.description import Description

#: How many pictures are taken, of more evenly many; the ranges of maps change little after these.
MOST = 256


def calibration(given: Any, about: Description, notes: list[str]) -> list[np.ndarray]:
    """Pictures as a file takes them, (1, C, H, W) each, at most `MOST`.

    Args:
        given: as `int8` of `switchnorm.export`.
        about: of the file: how pictures are prepared.
        notes: takes a line for each folder of which something is left out.

    Raises:
        InputError: no pictures, pictures that cannot be read, or that have another size than the file is for.
    """
    try:
        found, left_out = found_pictures(_one_by_one(given))
    except InputError as error:
        raise InputError(f"int8: {error}") from error
    notes += left_out
    step = -(-len(found) // MOST)
    images = [image for picture in found[::step] for image in _prepared(picture, about)]
    for image in images:
        if about.size is not None:
            for side, wanted, name in zip(image.shape[2:], about.size, ("height", "width"), strict=True):
                if side != wanted and name not in about.dynamic:
                    shown = "x".join(map(str, image.shape[2:]))
                    raise InputError(
                        f"pictures of int8 become {shown}, and the file is for {about.size[0]}x{about.size[1]}; open "
                        "height and width, or give pictures of that size"
                    )
    return images


def _one_by_one(given: Any) -> Iterator[Any]:
    """What lists and batches hold; tensors as arrays."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    if isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.ndim == 4):
        for each in given:
            yield from _one_by_one(each)
    else:
        yield given


def _prepared(picture: Any, about: Description) -> list[np.ndarray]:
    if about.preparation is None:
        array = np.asarray(picture)
        if is_path(picture) or array.ndim != 3 or array.dtype.kind != "f":
            raise InputError(
                "int8 of a network without a preparation takes arrays (C, H, W) of the numbers that it is shown; give "
                "a description with a preparation for files"
            )
        return [np.ascontiguousarray(array[None], dtype=np.float32)]
    if is_path(picture):
        shown = about.preparation.prepare(about.preparation.read(str(picture)))
    else:
        shown = about.preparation.prepare(about.preparation.taken(picture, "a picture of int8"))
    arrays = [about.preparation.normalized(image) if about.raw else image for image in shown.images]
    return [np.ascontiguousarray(array)[None] for array in arrays]
