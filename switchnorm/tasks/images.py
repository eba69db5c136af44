"""Picture files that stay whole when the process is killed, and what those of test pictures are called."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from switchnorm.files import write_file


class _Named(Protocol):
    """A dataset whose test pictures have names."""

    @property
    def test_size(self) -> int: ...
    def test_name(self, index: int) -> str: ...


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


def file_names(dataset: _Named) -> list[str]:
    """A name for each test picture: its own, with its place where pictures of several folders share one."""
    names = [dataset.test_name(index) for index in range(dataset.test_size)]
    while len(shared := Counter(names)) < len(names):  # again where a name with its place is another picture's own
        names = [name if shared[name] == 1 else f"{name}-{index}" for index, name in enumerate(names)]
    return names
