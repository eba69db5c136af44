"""Pictures in the folder of a run, as they go into a page."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from switchnorm.errors import InputError
from switchnorm.runs.reading import check_inside

#: Of a picture that a page shows: 4 bytes each while it is looked at.
_MOST_PIXELS = 40_000_000


@dataclass(frozen=True)
class RunPicture:
    """A picture as it goes into the page."""

    uri: str
    width: int
    height: int
    labels: tuple[int, ...] = ()
    """Of a mask: which labels are in it."""


def read_run_picture(path: Path, listed: str) -> RunPicture:
    """A JPEG or PNG file in a folder of a run's folder.

    Args:
        path: of the file.
        listed: the file that lists it.

    Raises:
        InputError: it is missing, damaged, larger than a page can show, or lies elsewhere.
    """
    check_inside(path.parents[1], path)
    try:
        content = path.read_bytes() if path.is_file() or not path.exists() else b""
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise InputError(f"{path} has {image.width} x {image.height} pixels, more than a page can show")
            image.load()
            kind, size = str(image.format).lower(), image.size
            labels = image.getcolors(256) if image.mode in ("P", "L") else None
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing, but {listed} lists it") from error
    except InputError:
        raise
    except Exception as error:  # the decoders of damaged files raise nearly anything
        raise InputError(f"{path} is damaged: it cannot be read as a picture") from error
    uri = f"data:image/{kind};base64,{b64encode(content).decode()}"
    return RunPicture(uri, size[0], size[1], tuple(sorted(int(label) for _, label in labels or ())))


def picture_figure(picture: RunPicture, caption: str, description: str, kind: str = "photo") -> str:
    """A picture as HTML, with a caption below it and words for those who cannot see it."""
    return (
        f'<figure><img class="{kind}" src="{picture.uri}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(description)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def picture_row(figures: list[str], most: int) -> str:
    """Figures, as HTML, beside each other; in several lines of one length where there are more than so many."""
    lines = -(-len(figures) // most)
    return f'<div class="scene" style="--columns: {-(-len(figures) // lines)}">{"".join(figures)}</div>'
