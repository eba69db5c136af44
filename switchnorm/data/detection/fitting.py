"""A picture in the size that its annotations state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from switchnorm.data.files.opening import opened, orientation, sides
from switchnorm.data.files.picture_file import MisfitError, Pixels, read_picture
from switchnorm.data.files.remarks import remark

if TYPE_CHECKING:
    from switchnorm.data.picture import Picture

#: A quarter or three of a turn, and mirrored besides, undone: by what EXIF says, how an upright picture is turned back.
_BACK = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def read_fitting(path: str, pixels: Pixels, size: tuple[int, int], source: Path) -> Picture:
    """The picture of a file, the right way up; or as the file stores it where the stated size fits that alone.

    Not everything that writes annotations turns pictures as EXIF says. COCO's were made on pixels as they are stored.

    Args:
        path: of the file.
        pixels: what the picture becomes.
        size: the height and width that its annotations state.
        source: of these, for the error.

    Raises:
        DamagedError: as `read_picture`; or a picture of another size.
        InputError: as `read_picture`.
    """
    from switchnorm.data.picture import size_of

    picture = read_picture(path, pixels)
    found = size_of(picture)
    if found == size:
        return picture
    if found[::-1] == size:
        with opened(path) as file:
            lies = orientation(file)
        if lies in _BACK:
            remark("lie on their side by EXIF and their boxes do so too; they are taken as they are stored", path)
            return _turned_back(picture, lies)
    raise MisfitError(f"picture {path} is {sides(found)}; expected {sides(size)} as {source} states")


def _turned_back(picture: Picture, lies: int) -> Picture:
    if not isinstance(picture, Tensor):
        return picture.transpose(_BACK[lies])
    if lies in (5, 7):
        return (picture if lies == 5 else picture.flip(1, 2)).transpose(1, 2).contiguous()
    return picture.rot90(1 if lies == 6 else -1, (1, 2)).contiguous()
