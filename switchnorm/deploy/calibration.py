"""Pictures by which the scales of 8-bit numbers are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from switchnorm.data.files.listing import EXTENSIONS
from switchnorm.data.files.walk import find_files
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.deploy.description import Description

#: How many pictures are taken, of more evenly many; the ranges of maps change little after these.
MOST = 256


def calibration(given: Any, about: Description) -> list[np.ndarray]:
    """Pictures as a file takes them, (1, C, H, W) each, at most `MOST`.

    Args:
        given: as `int8` of `switchnorm.export`.
        about: of the file: how pictures are prepared.

    Raises:
        InputError: no pictures, pictures that cannot be read, or that have another size than the file is for.
    """
    found = list(_pictures(given))
    if not found:
        raise InputError("int8 needs pictures to choose scales by; give files, a folder, or arrays")
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


def _pictures(given: Any) -> Iterator[Any]:
    if isinstance(given, str | Path):
        place = Path(given)
        if place.is_dir():
            paths = find_files(place, EXTENSIONS).paths
            if not paths:
                raise InputError(f"folder {str(place)!r} of int8 holds no pictures")
            yield from map(Path, paths)
        elif not place.is_file():
            raise InputError(f"picture {str(place)!r} of int8 is missing; expected a file or a folder of files")
        else:
            yield place
    elif isinstance(given, np.ndarray) and given.ndim == 4:
        yield from given
    elif isinstance(given, list | tuple):
        for each in given:
            yield from _pictures(each)
    else:
        yield given


def _prepared(picture: Any, about: Description) -> list[np.ndarray]:
    if about.preparation is None:
        array = np.asarray(picture)
        if isinstance(picture, Path) or array.ndim != 3 or array.dtype.kind != "f":
            raise InputError(
                "int8 of a network without a preparation takes arrays (C, H, W) of the numbers that it is shown; give "
                "a description with a preparation for files"
            )
        return [np.ascontiguousarray(array[None], dtype=np.float32)]
    if isinstance(picture, Path):
        shown = about.preparation.prepare(about.preparation.read(str(picture)))
    else:
        shown = about.preparation.prepare(about.preparation.taken(picture, "a picture of int8"))
    arrays = [about.preparation.normalized(image) if about.raw else image for image in shown.images]
    return [np.ascontiguousarray(array)[None] for array in arrays]
