"""Pictures as people give them: files, folders, pictures of Pillow and arrays. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from PIL import Image

from switchnorm.data.files.walk import EXTENSIONS, find_files, no_pictures, told
from switchnorm.data.resizing import Array
from switchnorm.errors import InputError

#: A file, a folder of files, or a picture in memory.
PictureLike: TypeAlias = "str | os.PathLike[str] | Image.Image | Array"


def found_pictures(
    pictures: PictureLike | Iterable[PictureLike],
) -> tuple[list[PictureLike], list[str]]:
    """The pictures one by one, each file once, with those in folders; and what folders hold besides, in words.

    Raises:
        InputError: a file that is missing, a folder without pictures, or something that is no picture.
    """
    given: list[Any] = [pictures] if is_path(pictures) or isinstance(pictures, Image.Image | np.ndarray) else []
    if not given:
        if not isinstance(pictures, Iterable) or isinstance(pictures, bytes | Mapping):
            raise InputError(
                f"{type(pictures).__name__} is no picture; expected a file, a folder, Pillow's or an array"
            )
        given = list(pictures)
    if not given:
        raise InputError("no pictures were given; expected files, or folders of files")
    found: dict[Any, PictureLike] = {}
    left_out = []
    for place, each in enumerate(given):
        if isinstance(each, Image.Image | np.ndarray):
            found[place] = each
            continue
        if not is_path(each):
            kind = type(each).__name__
            raise InputError(f"picture {place} is {kind}; expected a file, a folder, Pillow's or an array (H, W, C)")
        path = Path(each)
        inside = [path]
        if path.is_dir():
            below = find_files(path, EXTENSIONS)
            left_out.append(told(str(path), below.left_out))
            inside = [Path(name) for name in below.paths]
            if not inside:
                raise InputError(f"folder {str(path)!r} holds {no_pictures(below.left_out)}")
        for file in inside:
            if not file.is_file():
                raise InputError(f"picture {str(file)!r} is missing; expected a file or a folder of files")
            found.setdefault(file.resolve(), file)
    return list(found.values()), [line for line in left_out if line]


def is_path(value: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Whether it names a file or a folder."""
    return isinstance(value, str | os.PathLike)
