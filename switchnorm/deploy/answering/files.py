"""What `switchnorm predict` writes of answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image

from switchnorm.data.resizing import Array, Pixelled
from switchnorm.deploy.answers import Answer


class AnswerFiles(ABC):
    """Files in a folder, one or some for each picture and perhaps some for all.

    Args:
        files: the pictures.
        out: the folder, which exists.

    Attributes:
        title: what is written, "masks and overlays".
        noun: a file that is written for one picture, "mask".
    """

    title: ClassVar[str]
    noun: ClassVar[str] = "file"

    def __init__(self, files: Sequence[Path], out: Path) -> None:
        self.files = files
        self.out = out

    @staticmethod
    def written(file: Path, out: Path) -> tuple[Path, ...]:
        """The files that are written for a picture alone."""
        return ()

    @abstractmethod
    def add(self, place: int, picture: Pixelled, answer: Answer) -> None:
        """Keep or write the answer for a picture.

        Args:
            place: of the picture in `files`.
            picture: as it was read.
            answer: what the network says about it.
        """

    @abstractmethod
    def finish(self) -> list[str]:
        """Write what is about all pictures; lines for the terminal."""


def seen(picture: Pixelled) -> Image.Image:
    """What people are shown of a picture: the first three channels, or the first in grey; in red, green and blue."""
    if isinstance(picture, Image.Image):
        return picture
    channels: Array = picture[:3] if len(picture) >= 3 else picture[:1].repeat(3, 0)
    return Image.fromarray(channels.transpose(1, 2, 0).copy())
