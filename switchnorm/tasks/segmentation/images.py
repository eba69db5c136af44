"""Writing picture files that stay whole when the process is killed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from switchnorm.files import write_file


def write_image(path: Path, image: Image.Image, **options: Any) -> None:
    """Write a JPEG or PNG file, as its name ends, so that a kill leaves the old content or the new, never a part.

    Args:
        path: ends with .jpg or .png.
        image: in a mode that the format takes.
        **options: of Pillow's writer.
    """
    content = io.BytesIO()
    image.save(content, "JPEG" if path.suffix == ".jpg" else "PNG", **options)
    write_file(path, content.getvalue())
