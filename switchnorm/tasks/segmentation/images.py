"""Picture files that stay whole when the process is killed, and what those of test pictures are called."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from switchnorm.data.segmentation import SegmentationDataset
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


def file_names(dataset: SegmentationDataset) -> list[str]:
    """A name for each test picture: its own, with its place where pictures of several folders share one."""
    names = [dataset.test_name(index) for index in range(dataset.test_size)]
    while len(shared := Counter(names)) < len(names):  # again where a name with its place is another picture's own
        names = [name if shared[name] == 1 else f"{name}-{index}" for index, name in enumerate(names)]
    return names
