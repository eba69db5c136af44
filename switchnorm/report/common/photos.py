"""Pictures in a page, small enough for it to hold them."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from PIL import Image

#: The longer side of what is shown, in pixels, and the shorter one up to which small pictures are enlarged.
_LONGEST, _SHORTEST = 280, 96
_COLUMNS = 4


class Photo(NamedTuple):
    """A picture to be shown.

    Args:
        image: as HTML.
        caption: below it, as text; each line is one of its own.
    """

    image: str
    caption: str


def photo(picture: Image.Image, caption: str, description: str) -> Photo:
    """A picture as a page shows it: a thumbnail, so that the picture itself need not be kept.

    Args:
        picture: of any size.
        caption: below it.
        description: for those who cannot see it.
    """
    small = thumbnail(picture)
    content = io.BytesIO()
    small.save(content, "JPEG", quality=82)
    uri = f"data:image/jpeg;base64,{b64encode(content.getvalue()).decode()}"
    image = f'<img src="{uri}" width="{small.width}" height="{small.height}" alt="{escape(description)}">'
    return Photo(image, caption)


def thumbnail(picture: Image.Image) -> Image.Image:
    """Small enough for a page, and large enough to be seen."""
    factor = min(_LONGEST / max(picture.size), max(_SHORTEST / min(picture.size), 1))
    size = (max(round(picture.width * factor), 1), max(round(picture.height * factor), 1))
    resample = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    colored = picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy a picture that is
    return colored.resize(size, resample)


def photo_grid(photos: Iterable[Photo]) -> str:
    """Photos beside and below each other, as HTML."""
    return f'<div class="scene" style="--columns: {_COLUMNS}">{"".join(map(_figure, photos))}</div>'


def _figure(each: Photo) -> str:
    lines = "<br>".join(map(escape, each.caption.splitlines()))
    return f"<figure>{each.image}{f'<figcaption>{lines}</figcaption>' if lines else ''}</figure>"
